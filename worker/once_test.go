package worker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// worker makes a worker that does not run yet.
func (s *shared) worker() *Worker {
	s.t.Helper()
	w, err := New(s.t.Context(), Config{
		DatabaseURL: s.databaseURL,
		Targets:     map[string]string{"default": s.redisURL},
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func TestWorkerWorksOnceOnly(t *testing.T) {
	s := newShared(t, 1)
	ran, drained, closed := s.worker(), s.worker(), s.worker()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ran.Run(ctx); err != nil {
		t.Errorf("told to end before it began, Run returns %v", err)
	}
	if err := drained.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for what, w := range map[string]*Worker{"Run": ran, "Drain": drained, "Close": closed} {
		if err := w.Run(t.Context()); !errors.Is(err, errOver) {
			t.Errorf("Run after %s returns %v", what, err)
		}
		if err := w.Drain(t.Context()); !errors.Is(err, errOver) {
			t.Errorf("Drain after %s returns %v", what, err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close after %s returns %v", what, err)
		}
	}
}

func TestDrainThatIsEndedBeforeItBeganSaysSo(t *testing.T) {
	s := newShared(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.worker().Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v", err)
	}
}

// Whatever holds a connection at the end is not taken for a transform.
func TestTransformIsBlamedOnlyIfOneIsOverdue(t *testing.T) {
	s := newShared(t, 1)
	w := s.worker()
	conn, err := w.control.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "still in use") || strings.Contains(err.Error(), "transform") {
		t.Errorf("it says %v", err)
	}
}
