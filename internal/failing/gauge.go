package failing

import (
	"sync"
	"time"
)

const (
	// span is how long entries are counted.
	span = 60 * time.Second
	// Above so many failures, which are more than one in so many of the entries that were
	// looked at, it is the definition that is broken.
	mostFailures = 1000
	oneIn        = 20
)

// tooMany judges what failed of what was looked at within span.
func tooMany(looked, failed int) bool {
	return failed > mostFailures && failed > looked/oneIn
}

// Gauges count what all lanes and ranges of a worker look at, for each sink and target:
// slices are shorter than what is counted over. The zero value is ready to use.
type Gauges struct {
	mu  sync.Mutex
	all map[gauged]*gauge
}

type gauged struct {
	sink   int32
	target string
}

func (g *Gauges) of(sink int32, target string) *gauge {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = make(map[gauged]*gauge)
	}
	one := g.all[gauged{sink, target}]
	if one == nil {
		one = new(gauge)
		g.all[gauged{sink, target}] = one
	}
	return one
}

// gauge counts the entries of the last minute, second by second.
type gauge struct {
	mu      sync.Mutex
	seconds [span / time.Second]struct {
		at             int64
		looked, failed int
	}
}

func (g *gauge) add(now time.Time, looked, failed int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.seconds[now.Unix()%int64(len(g.seconds))]
	if s.at != now.Unix() {
		s.at, s.looked, s.failed = now.Unix(), 0, 0
	}
	s.looked += looked
	s.failed += failed
}

// reset forgets everything: what is counted from now on is of a sink that was mended.
func (g *gauge) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.seconds[:])
}

func (g *gauge) sum(now time.Time) (looked, failed int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.seconds {
		if now.Unix()-s.at < int64(len(g.seconds)) {
			looked += s.looked
			failed += s.failed
		}
	}
	return looked, failed
}
