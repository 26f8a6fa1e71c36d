package lane

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/task"
)

// freeLook is how often a second reader looks whether a connection has become free: about as long as a part takes.
const freeLook = 20 * time.Millisecond

// rest reads what the first part of a batch has left, by two at once where a connection and memory are free: what one of them waits
// for does not hold up the other. Each part is passed on as soon as it is read, so they are written in any order. That is never wrong: each is
// newer than the claim, and what changed since then is another claim's.
type rest struct {
	*pipe
	stop  <-chan struct{}
	first *batch
	// short: a slice is over, and the batch takes long.
	short atomic.Bool

	mu  sync.Mutex
	end batch
}

// rest returns the end of the batch, which has no entries, for the cursor to move; nil where a slice is over and the batch takes long.
func (p *pipe) rest(ctx context.Context, stop <-chan struct{}, first *batch) (*batch, error) {
	r := &rest{pipe: p, stop: stop, first: first, end: *first}
	// The second may have no room for all that it took when the first has ended already.
	for first.More() {
		if err := r.readOn(ctx); err != nil {
			return nil, err
		}
		if r.short.Load() && first.More() {
			return nil, nil
		}
	}
	r.end.goesOn, r.end.begun = false, time.Now()
	r.end.entries, r.end.giveBack = new(source.Entries), nil
	return &r.end, nil
}

// readOn reads until nothing is left, but for what is given back in the last moment.
func (r *rest) readOn(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return r.parts(ctx, func() (*source.Entries, error) { return r.room(ctx) }, r.giveBack)
	})
	if !r.alone {
		group.Go(func() error {
			return r.parts(ctx, func() (*source.Entries, error) { return r.spareRoom(ctx, ended) }, r.memory.back)
		})
	}
	return group.Wait()
}

// parts reads part after part into memory that room returns, until there is nothing left or no memory.
func (r *rest) parts(ctx context.Context, room func() (*source.Entries, error), giveBack func(*source.Entries)) error {
	for r.first.More() {
		if task.Closed(r.stop) && time.Since(r.first.begun) > longTime {
			r.short.Store(true)
			return nil
		}
		entries, err := room()
		if entries == nil || err != nil {
			return err
		}
		// The server must not be found before where it was when those were read that are read by now.
		r.mu.Lock()
		part := r.end
		r.mu.Unlock()
		part.entries, part.giveBack, part.begun = entries, giveBack, time.Now()
		if err := r.reader.Rest(ctx, &part.Batch, entries); err != nil {
			return err
		}
		if entries.Len() == 0 {
			giveBack(entries)
			continue
		}
		r.mu.Lock()
		r.end.Insert, r.end.Flushed = max(r.end.Insert, part.Insert), max(r.end.Flushed, part.Flushed)
		r.mu.Unlock()
		if err := r.pass(ctx, &part); err != nil {
			return err
		}
	}
	return nil
}

// spareRoom waits for memory that other lanes have, too, and for connections that nobody needs, until ended is closed, and is nil then:
// who is not needed must not keep others waiting.
func (r *rest) spareRoom(ctx context.Context, ended <-chan struct{}) (*source.Entries, error) {
	for {
		select {
		case entries := <-r.memory.spare:
			r.memory.took()
			if r.reader.Free() {
				return entries, nil
			}
			r.memory.back(entries)
		case <-ended:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if _, err := task.Pause(ctx, ended, freeLook); err != nil {
			return nil, err
		}
	}
}
