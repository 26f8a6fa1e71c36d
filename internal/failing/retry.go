package failing

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	retryEvery   = time.Second
	retryTimeout = 10 * time.Second
)

// Retry has failing entries on these targets touched when their time has come, until ctx
// ends. The lane decides what becomes of them.
func Retry(ctx context.Context, db *pgxpool.Pool, targets []string, log *slog.Logger) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	var failing bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := retry(ctx, db, targets)
		if ctx.Err() != nil {
			return
		}
		// One line when it begins and one when it is over.
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				log.Warn("failing entries are not tried again", "err", err)
			} else {
				log.Info("failing entries are tried again")
			}
		}
	}
}

func retry(ctx context.Context, db *pgxpool.Pool, targets []string) error {
	ctx, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	_, err := db.Exec(ctx, "select freshet.retry_failures($1)", targets)
	return err
}
