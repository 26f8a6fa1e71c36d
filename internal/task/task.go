package task

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/doorbell"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/transform"
)

// Config is what the tasks of a worker share.
type Config struct {
	// Control is for short statements of Freshet's own. Read is for claims: its size
	// bounds how many lanes read at a time. Bulk is for backfills and sweeps, so that no
	// live change waits behind them.
	Control, Read, Bulk *pgxpool.Pool
	Installation        string
	Bell                *doorbell.Bell
	// Transforms are the functions of Go that this worker has.
	Transforms *transform.Registry
	Traffic    *Traffic
	Metrics    *metrics.Metrics
	Log        *slog.Logger
}

// Closed reports whether a channel that is only ever closed is closed.
func Closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Retype looks at a sink anew if err is that its value is of another type than it was. It
// returns err, and what went wrong besides.
func (c Config) Retype(ctx context.Context, sink int32, err error) error {
	if !pg.IsType(err) {
		return err
	}
	_, again := c.Control.Exec(ctx, "select freshet.retype($1)", sink)
	return errors.Join(err, again)
}

// ErrGone is returned when the sink does not exist any more: the task has no work.
var ErrGone = errors.New("the sink is gone")
