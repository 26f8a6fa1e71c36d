package doorbell

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// hearTimeout is long for a notification to oneself, which is sent before the reply to
// the statement after it.
const hearTimeout = 2 * time.Second

// Hears reports whether a connection made by dial receives notifications. Behind a
// transaction pooler it does not.
func Hears(ctx context.Context, dial func(context.Context) (*pgx.Conn, error)) (bool, error) {
	conn, err := dial(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hearTimeout)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	probe := fmt.Sprintf("freshet_probe_%d", conn.PgConn().PID())
	if _, err := conn.Exec(ctx, "listen "+probe); err != nil {
		return false, err
	}
	if _, err := conn.Exec(ctx, "select pg_notify($1, '')", probe); err != nil {
		return false, err
	}
	waitCtx, cancel := context.WithTimeout(ctx, hearTimeout)
	defer cancel()
	_, err = conn.WaitForNotification(waitCtx)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return false, nil
	}
	return false, err
}
