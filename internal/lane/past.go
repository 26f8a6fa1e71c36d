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
// committed since: neither its positions in the WAL nor its leases' epochs are as far.
func (l *Lane) present(ctx context.Context, w *fence.Writer, own, other fence.Fence) error {
	var (
		texts       [2]string
		now         [2]source.LSN
		incarnation *string
	)
	// Asked after the key was read: on one server it can only have come further since.
	err := l.Control.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text, freshet.incarnation()").
		Scan(&texts[0], &texts[1], &incarnation)
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
		if insert < reached || ahead(other, own) {
			return l.wentBack(ctx, own)
		}
		flushed = max(flushed, reached)
	}
	w.Reached(flushed.String())
	return nil
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

// followTruncation asks for what follows from truncations in a window, once: however often a target refuses the batch. A
// lane that is there to remove entries does so for all of them anyway.
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
