package health

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func ask(page http.HandlerFunc) (int, string) {
	answer := httptest.NewRecorder()
	page(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	return answer.Code, answer.Body.String()
}

func TestLoopThatStandsStillIsNotAlive(t *testing.T) {
	t.Parallel()
	var going, standing, slow, idle Pulse
	m := NewMonitor()
	m.Watch(Loop{Name: "the going one", Pulse: &going}, Loop{Name: "the standing one", Pulse: &standing}, Loop{Name: "the slow one", Pulse: &slow, Stalled: 3 * Stalled},
		Loop{Name: "the one that has not begun", Pulse: &idle})
	going.Beat()
	standing.Beat()
	slow.Beat()
	if status, said := ask(m.Live); status != http.StatusOK {
		t.Errorf("%d %s", status, said)
	}
	standing.at.Store(standing.at.Load() - int64(2*Stalled))
	slow.at.Store(slow.at.Load() - int64(2*Stalled))
	if status, said := ask(m.Live); status != http.StatusServiceUnavailable || said != "the standing one has made no turn for 1m0s\n" {
		t.Errorf("%d %q", status, said)
	}
	standing.Beat()
	if status, said := ask(m.Live); status != http.StatusOK {
		t.Errorf("after it went on: %d %s", status, said)
	}
}

func TestReadyHasALineForEachReason(t *testing.T) {
	t.Parallel()
	wrong := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	m := NewMonitor(
		Need{"Postgres", wrong(nil)}, Need{"target one", wrong(errors.New("over\n two  lines"))},
		Need{"target two", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	)
	if _, said := ask(m.Ready); said != "the worker is starting\n" {
		t.Error(said)
	}
	m.Enter(Working)
	if status, said := ask(m.Ready); status != http.StatusServiceUnavailable || said != "target one: over two lines\ntarget two: no answer within 2s\n" {
		t.Errorf("%d %q", status, said)
	}
	m.Enter(Stopping)
	if _, said := ask(m.Ready); said != "the worker is stopping\n" {
		t.Error(said)
	}
}

// However many probes there are, servers are asked now and then only.
func TestManyProbesAreOneQuestion(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	m := NewMonitor(Need{"Postgres", func(context.Context) error { asked.Add(1); return nil }})
	m.Enter(Working)
	began := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if status, said := ask(m.Ready); status != http.StatusOK || said != "ready\n" {
				t.Errorf("%d %s", status, said)
			}
		})
	}
	wg.Wait()
	if n := int(asked.Load()); n > 1+int(time.Since(began)/askEvery) {
		t.Errorf("asked %d times in %s", n, time.Since(began))
	}
}

func TestCallThatHangsIsNotAlive(t *testing.T) {
	t.Parallel()
	m := NewMonitor()
	var late []string
	m.WatchCalls(func() []string { return late })
	if status, said := ask(m.Live); status != http.StatusOK {
		t.Errorf("%d %s", status, said)
	}
	late = []string{"it hangs"}
	if status, said := ask(m.Live); status != http.StatusServiceUnavailable || said != "it hangs\n" {
		t.Errorf("%d %q", status, said)
	}
}
