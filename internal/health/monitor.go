package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Stalled is after how long without a turn a loop is taken for dead. The slowest turn
	// of any, with every server away, takes half as long.
	Stalled = 30 * time.Second
	// askTimeout is what a server may take to answer before the worker is not ready.
	askTimeout = 2 * time.Second
	// askEvery bounds how often servers are asked, however many ask us.
	askEvery = 500 * time.Millisecond
)

// Phase is how far a worker is in its life.
type Phase int32

// The phases, in order.
const (
	Starting Phase = iota
	Working
	Stopping
	Stopped
)

// Loop is one without which the worker is not alive.
type Loop struct {
	Name  string
	Pulse *Pulse
	// Stalled is after how long without a turn it is taken for dead, if not the usual time.
	Stalled time.Duration
}

// Need is something without which the worker cannot work.
type Need struct {
	Name string
	// Ask returns what is wrong.
	Ask func(ctx context.Context) error
}

// Monitor answers for one worker.
type Monitor struct {
	phase atomic.Int32
	needs []Need

	mu    sync.Mutex
	loops []Loop
	hung  func() []string

	asking sync.Mutex
	asked  time.Time
	wrong  []string
}

// NewMonitor makes a monitor of a worker that is starting.
func NewMonitor(needs ...Need) *Monitor { return &Monitor{needs: needs} }

// Enter says that the worker has come to a phase.
func (m *Monitor) Enter(p Phase) { m.phase.Store(int32(p)) }

// Watch says which loops run from now on.
func (m *Monitor) Watch(loops ...Loop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loops = loops
}

// WatchCalls says what lists calls that will never end: these too only a new process helps.
func (m *Monitor) WatchCalls(hung func() []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung = hung
}

// Live answers with 200 unless one of the worker's own loops has stopped, or a call hangs: then only a new
// process helps. Servers that are away do not matter.
func (m *Monitor) Live(w http.ResponseWriter, _ *http.Request) {
	answer(w, "alive", m.dead())
}

func (m *Monitor) dead() []string {
	if Phase(m.phase.Load()) == Stopped {
		return []string{"the worker has stopped"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var dead []string
	for _, l := range m.loops {
		if age, begun := l.Pulse.Age(); begun && age > cmp.Or(l.Stalled, Stalled) {
			dead = append(dead, fmt.Sprintf("%s has made no turn for %s", l.Name, age.Round(time.Second)))
		}
	}
	if m.hung != nil {
		dead = append(dead, m.hung()...)
	}
	return dead
}

// Ready answers with 200 when everything that the worker needs is there, else with 503 and
// a line for each reason.
func (m *Monitor) Ready(w http.ResponseWriter, r *http.Request) {
	answer(w, "ready", m.missing(r.Context()))
}

func (m *Monitor) missing(ctx context.Context) []string {
	switch Phase(m.phase.Load()) {
	case Starting:
		return []string{"the worker is starting"}
	case Stopping:
		return []string{"the worker is stopping"}
	case Stopped:
		return []string{"the worker has stopped"}
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	if !m.asked.IsZero() && time.Since(m.asked) < askEvery {
		return m.wrong
	}
	// Who asked may not wait for the answer, but the next one gets it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	wrong := make([]string, len(m.needs))
	var wg sync.WaitGroup
	for i, n := range m.needs {
		wg.Go(func() {
			if err := n.Ask(ctx); err != nil {
				wrong[i] = n.Name + ": " + reason(err)
			}
		})
	}
	wg.Wait()
	m.wrong = nil
	for _, line := range wrong {
		if line != "" {
			m.wrong = append(m.wrong, line)
		}
	}
	m.asked = time.Now()
	return m.wrong
}

// reason is an error in one line.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", askTimeout)
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func answer(w http.ResponseWriter, good string, wrong []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(wrong) == 0 {
		_, _ = io.WriteString(w, good+"\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, strings.Join(wrong, "\n")+"\n")
}
