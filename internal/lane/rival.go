package lane

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/task"
)

// leftToRival says that a control key is not to be taken yet from a copy of the database.
type leftToRival struct {
	rival string
	pause time.Duration
}

func (e *leftToRival) Error() string {
	return fmt.Sprintf("a copy of this database (%s) writes the same entries", e.rival)
}

// rivalOf is the other server that has written a control key, or the owner key of its sink,
// last; "" if it was none.
func rivalOf(own, other fence.Fence, w *fence.Writer) string {
	if w.State().Exists && other.Incarnation != redefine.Lost && !fence.SameServer(own.Incarnation, other.Incarnation) {
		return fence.Server(other.Incarnation)
	}
	if owner := fence.OwnerServer(w.Owned()); owner != "" && owner != fence.Server(own.Incarnation) {
		return owner
	}
	return ""
}

// meet returns [leftToRival] if the key has to be left to the rival for now.
func (l *Lane) meet(ctx context.Context, rival string) error {
	var pause time.Duration
	if err := l.Control.QueryRow(ctx, "select freshet.meet_rival($1, $2, $3)", l.held.ID, l.held.Epoch, rival).Scan(&pause); err != nil {
		return fmt.Errorf("ask about another server's writes: %w", err)
	}
	if pause <= 0 {
		return nil
	}
	l.held.Rivalled = true
	return &leftToRival{rival, pause}
}

// beat notes that the key is this server's again.
func (l *Lane) beat(ctx context.Context) error {
	if _, err := l.Control.Exec(ctx, "select freshet.beat_rival($1, $2)", l.held.ID, l.held.Epoch); err != nil {
		return fmt.Errorf("note that the control key was taken from another server: %w", err)
	}
	l.held.Rivalled = false
	return nil
}

// leave waits until the key may be taken again.
func (l *Lane) leave(ctx context.Context, sink *catalog.Sink, left *leftToRival, end <-chan struct{}) error {
	l.Log.Warn("a copy of this database writes the same entries; end its workers, or give them another Redis",
		"sink", sink.Name, "target", l.target.Name, "copy", left.rival, "pause", left.pause.Round(time.Millisecond))
	_, err := task.Pause(ctx, end, left.pause)
	return err
}
