package task

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// slowBatch is how long a lane takes at most for a batch of live changes that nobody is in
	// the way of: a fraction of it is usual.
	slowBatch = 15 * time.Millisecond
	// crowdedFor is for how long one such batch has ranges work one after the other. Long
	// enough for a backfill not to find out again and again.
	crowdedFor = 10 * time.Second
)

// Traffic lets lanes have the right of way before ranges. As long as live changes are slow to
// get to their target, one range of the worker reads and the others wait: they would get
// along together no faster on a machine that has no time to spare. The zero value is ready to use.
type Traffic struct {
	mu sync.Mutex
	// until is when it is not crowded any more.
	until time.Time
	// ranges are those that are at work, the first one always going on.
	ranges []*Way
	// changed is closed when ranges changes.
	changed chan struct{}
}

// Way is the place of a range among others.
type Way struct{ traffic *Traffic }

// Batch says how long a batch of live changes took from its claim to its target.
func (t *Traffic) Batch(took time.Duration) {
	if took < slowBatch {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(crowdedFor)
}

// Enter gives a range its place. Leave must be called in the end.
func (t *Traffic) Enter() *Way {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &Way{t}
	t.ranges = append(t.ranges, w)
	return w
}

// Leave gives the place up.
func (w *Way) Leave() {
	t := w.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.ranges, w); i >= 0 {
		t.ranges = slices.Delete(t.ranges, i, i+1)
	}
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Give waits while others have to go first. It returns false when stop was closed.
func (w *Way) Give(ctx context.Context, stop <-chan struct{}) (bool, error) {
	for {
		wait, changed := w.wait()
		if wait <= 0 {
			return true, nil
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-stop:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// wait is for how long, at most, and what ends it sooner.
func (w *Way) wait() (time.Duration, <-chan struct{}) {
	t := w.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ranges) == 0 || t.ranges[0] == w {
		return 0, nil
	}
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return time.Until(t.until), t.changed
}

// Crowded reports whether live changes are slow.
func (t *Traffic) Crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}
