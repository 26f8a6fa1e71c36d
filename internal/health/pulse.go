package health

import (
	"sync/atomic"
	"time"
)

// epoch makes times that a change of the clock does not move.
var epoch = time.Now()

// Pulse is beaten by a loop at each turn.
type Pulse struct {
	// at is how long after epoch the last beat was, 0 before the first.
	at atomic.Int64
}

// Beat says that the loop goes round.
func (p *Pulse) Beat() { p.at.Store(int64(time.Since(epoch)) + 1) }

// Age is how long ago the last beat was, false before the first.
func (p *Pulse) Age() (time.Duration, bool) {
	at := p.at.Load()
	if at == 0 {
		return 0, false
	}
	return max(time.Since(epoch)-time.Duration(at), 0), true
}
