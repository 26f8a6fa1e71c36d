package failing

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/task"
)

const (
	retryEvery   = time.Second
	retryTimeout = 10 * time.Second
)

// Retry has failing entries on these targets touched when their time has come, until ctx
// ends. The lane decides what becomes of them.
func Retry(ctx context.Context, db *pgxpool.Pool, targets []string, log *slog.Logger) {
	task.Repeat(ctx, retryEvery, log, "failing entries are not tried again", "failing entries are tried again",
		func(ctx context.Context) error { return retry(ctx, db, targets) })
}

func retry(ctx context.Context, db *pgxpool.Pool, targets []string) error {
	ctx, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	_, err := db.Exec(ctx, "select freshet.retry_failures($1)", targets)
	return err
}
