package failing

import "time"

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

// gauge counts the entries of the last minute, second by second.
type gauge struct {
	seconds [span / time.Second]struct {
		at             int64
		looked, failed int
	}
}

func (g *gauge) add(now time.Time, looked, failed int) {
	s := &g.seconds[now.Unix()%int64(len(g.seconds))]
	if s.at != now.Unix() {
		s.at, s.looked, s.failed = now.Unix(), 0, 0
	}
	s.looked += looked
	s.failed += failed
}

func (g *gauge) sum(now time.Time) (looked, failed int) {
	for _, s := range g.seconds {
		if now.Unix()-s.at < int64(len(g.seconds)) {
			looked += s.looked
			failed += s.failed
		}
	}
	return looked, failed
}
