package lane

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/target"
)

const (
	probeEvery   = time.Second
	probeTimeout = 5 * time.Second
)

// Probe looks each second whether the control keys of a worker's idle lanes are as they
// were left. A busy lane finds out by its next write; an idle one would not know for
// long that its target was flushed or restarted.
type Probe struct {
	// Turns is beaten by each turn of Run.
	Turns health.Pulse

	mu      sync.Mutex
	watched map[*watch]struct{}
	// asked are targets that have not answered yet.
	asked map[*target.Target]bool
}

type watch struct {
	target    *target.Target
	key       string
	owner     string
	owned     string
	left      fence.State
	disturbed func()
}

// NewProbe makes a probe that watches nothing yet.
func NewProbe() *Probe {
	return &Probe{watched: make(map[*watch]struct{}), asked: make(map[*target.Target]bool)}
}

// watch has disturbed called when the control key of w is found to differ from what w
// expects, until release is called. w must not write meanwhile.
func (p *Probe) watch(t *target.Target, w *fence.Writer, disturbed func()) (release func()) {
	entry := &watch{target: t, key: w.Key(), owner: w.Owner(), owned: w.Owned(), left: w.State(), disturbed: disturbed}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched[entry] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watched, entry)
	}
}

// Run looks until ctx ends. A target that does not answer keeps no other waiting.
func (p *Probe) Run(ctx context.Context) {
	var looks sync.WaitGroup
	defer looks.Wait()
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		p.Turns.Beat()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		byTarget := make(map[*target.Target][]*watch)
		p.mu.Lock()
		for w := range p.watched {
			if !p.asked[w.target] {
				byTarget[w.target] = append(byTarget[w.target], w)
			}
		}
		for t := range byTarget {
			p.asked[t] = true
		}
		p.mu.Unlock()
		for t, watches := range byTarget {
			looks.Go(func() {
				p.look(ctx, t, watches)
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.asked, t)
			})
		}
	}
}

// look reads the control keys of one target in one round trip.
func (p *Probe) look(ctx context.Context, t *target.Target, watches []*watch) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	pipe := t.Shared().Pipeline()
	replies, owners := make([]*redis.SliceCmd, len(watches)), make([]*redis.StringCmd, len(watches))
	for i, w := range watches {
		replies[i], owners[i] = fence.Read(ctx, pipe, w.key), pipe.Get(ctx, w.owner)
	}
	// A target that does not answer has not lost anything yet: it is asked again.
	_, _ = pipe.Exec(ctx)
	for i, w := range watches {
		if replies[i].Err() != nil {
			continue
		}
		if fence.Parsed(replies[i].Val()) != w.left || errors.Is(owners[i].Err(), redis.Nil) ||
			(owners[i].Err() == nil && owners[i].Val() != w.owned) {
			p.disturb(w)
		}
	}
}

// disturb calls back unless the lane has woken up meanwhile and written itself.
func (p *Probe) disturb(w *watch) {
	p.mu.Lock()
	_, still := p.watched[w]
	delete(p.watched, w)
	p.mu.Unlock()
	if still {
		w.disturbed()
	}
}
