package doorbell

import (
	"context"
	"time"

	"github.com/freshet/freshet/internal/cursor"
)

// Sleeper is a lane that may sleep on a source.
type Sleeper struct {
	bell   *Bell
	id     int64
	source int32
	wake   chan struct{}
	// incarnation that the lane works in: in another one its snapshots mean nothing.
	incarnation string

	// guarded by bell.mu
	passed cursor.Snapshot
	asleep bool

	// checked is called with what the check each second found to be passed.
	checked func(passed cursor.Snapshot, at time.Time)
}

// NewSleeper registers a lane of a source. While it sleeps, checked is told each second
// that nothing is pending as of a snapshot. Close must be called.
func (b *Bell) NewSleeper(source int32, incarnation string, checked func(passed cursor.Snapshot, at time.Time)) *Sleeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	s := &Sleeper{bell: b, id: b.next, source: source, wake: make(chan struct{}, 1), incarnation: incarnation, checked: checked}
	b.sleepers[s.id] = s
	return s
}

// Close ends the registration.
func (s *Sleeper) Close() {
	s.bell.mu.Lock()
	delete(s.bell.sleepers, s.id)
	s.bell.mu.Unlock()
	s.bell.disarmIfUnused(s.source)
}

// Arm makes sure that the next commit on the source rings. After it returns true, one
// more look at the change table is needed before Sleep; false means that a writer is
// open or the bell out of order, and the caller has to look again soon by itself.
func (s *Sleeper) Arm(ctx context.Context) bool {
	select {
	case <-s.wake: // from before; what it announced is found by the look that follows
	default:
	}
	// Counted as asleep from here on, so that the lock is not given back under it: both
	// this and the giving back happen under one mutex.
	s.bell.mu.Lock()
	s.asleep = true
	armed := s.bell.rings(s.source)
	s.bell.mu.Unlock()
	if armed {
		return true
	}
	done := make(chan bool, 1)
	select {
	case s.bell.requests <- request{source: s.source, done: done}:
		s.bell.poke()
	case <-ctx.Done():
		return false
	}
	timer := time.NewTimer(armPatience)
	defer timer.Stop()
	select {
	case armed := <-done:
		return armed
	case <-timer.C: // the listening connection hangs
		return false
	case <-ctx.Done():
		return false
	}
}

// Sleep waits for the bell, the check each second, or the end of d or ctx. passed is
// the snapshot of the caller's last look.
func (s *Sleeper) Sleep(ctx context.Context, passed cursor.Snapshot, d time.Duration) {
	s.bell.mu.Lock()
	s.passed, s.asleep = passed, true
	s.bell.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
	s.Awake()
}

// Awake says that the lane is at work again after Arm or Sleep.
func (s *Sleeper) Awake() {
	s.bell.mu.Lock()
	was := s.asleep
	s.asleep = false
	s.bell.mu.Unlock()
	if was {
		s.bell.disarmIfUnused(s.source)
	}
}

// Ring wakes the lane.
func (s *Sleeper) Ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
