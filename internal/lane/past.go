package lane

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/source"
)

// errWentBack ends a session because the target has what this server has not come to.
var errWentBack = errors.New("Postgres has gone back in time, such as by a backup that was restored")

// present makes sure that the server has all behind it that a control key was written after,
// and has the next write note how far it is. A backup that was restored in place has the
// incarnation that it had, or another of the same server, and knows nothing of what was
// committed since: neither its positions in the WAL nor its transactions nor its leases' epochs
// are as far.
func (l *Lane) present(ctx context.Context, w *fence.Writer, own, other fence.Fence) error {
	var (
		texts       [2]string
		now         [2]source.LSN
		incarnation *string
		xmax        uint64
	)
	// Asked after the key was read: on one server it can only have come further since.
	err := l.Control.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text, freshet.incarnation(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint").
		Scan(&texts[0], &texts[1], &incarnation, &xmax)
	if err != nil {
		return fmt.Errorf("read WAL position: %w", err)
	}
	if incarnation == nil || *incarnation != own.Incarnation {
		return durable.ErrReincarnated
	}
	for i, text := range texts {
		if now[i], err = source.ParseLSN(text); err != nil {
			return err
		}
	}
	insert, flushed := now[0], now[1]
	// Keys of before this was noted say nothing.
	var reached source.LSN
	if text := w.State().Reached; text != "" {
		if reached, err = source.ParseLSN(text); err != nil {
			return err
		}
	}
	// Of another server nothing can be compared; that it is another is all that counts.
	if same := other.Incarnation == redefine.Lost || fence.SameServer(own.Incarnation, other.Incarnation); w.State().Exists && same {
		unknown, err := sawMore(w.State(), other, own, xmax)
		if err != nil {
			return err
		}
		if insert < reached || unknown || ahead(other, own) {
			return l.wentBack(ctx, own)
		}
		flushed = max(flushed, reached)
	}
	w.Reached(flushed.String())
	return nil
}

// sawMore reports whether a control key is of transactions that the server has not begun. Their
// ids come a second time after a crash; within one life of the database they do not.
func sawMore(state fence.State, other, own fence.Fence, xmax uint64) (bool, error) {
	if other.Incarnation != own.Incarnation {
		return false, nil
	}
	c, err := cursor.Parse(state.Cursor)
	if err != nil {
		return false, err
	}
	return windowOf(c).Xmax > xmax, nil
}

// ahead reports whether a fence is of an epoch that the holder's server has not given out. The
// positions in the WAL may have been reached anew before a lane looked. Of another definition
// nothing is known: with other shards, lanes begin to count anew.
func ahead(other, own fence.Fence) bool {
	return other.Definition == own.Definition && !redefine.Replaced(other) &&
		(other.Epoch > own.Epoch || (other.Epoch == own.Epoch && other.Nonce != own.Nonce))
}

// wentBack makes this another server than the one whose future was lost: then all that any
// lane and any backfill has written is looked at again, wherever they are.
func (l *Lane) wentBack(ctx context.Context, own fence.Fence) error {
	var first bool
	if err := l.Control.QueryRow(ctx, "select freshet.renew_past($1)", own.Incarnation).Scan(&first); err != nil {
		return fmt.Errorf("note that Postgres has gone back in time: %w", err)
	}
	if first {
		l.Log.Warn("Postgres has gone back in time: a target has what it has not come to", "sink", l.held.Sink, "target", l.target.Name)
	}
	return errWentBack
}

// followTruncation asks for what follows from truncations in a window, once: however often a target refuses the batch. When
// it has it, they are over. A lane that is there to remove entries does so for all of them anyway.
func (l *Lane) followTruncation(ctx context.Context, own fence.Fence, window cursor.Snapshot) error {
	at := own.Incarnation + " " + window.String()
	if l.held.Closing || l.truncated == at {
		return nil
	}
	_, err := l.Control.Exec(ctx, "select freshet.truncated($1, $2, $3::text::pg_snapshot)", l.held.SinkID, l.target.Name, window.String())
	if err != nil {
		return fmt.Errorf("look for what a truncation has left: %w", err)
	}
	l.truncated = at
	return nil
}
