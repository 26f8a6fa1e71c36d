package lane

import (
	"sync/atomic"

	"github.com/freshet/freshet/internal/source"
)

// spareBytes is how much memory of a part is kept. A large value makes it grow.
const spareBytes = 16 << 20

// Spare is memory for parts of batches that the lanes of a worker share: more of them may be in memory at once where only some lanes
// are far behind, and not where all are.
type Spare struct{ entries chan *source.Entries }

// NewSpare makes memory for so many parts.
func NewSpare(parts int) *Spare {
	s := &Spare{make(chan *source.Entries, parts)}
	for range parts {
		s.entries <- new(source.Entries)
	}
	return s
}

// borrowed is what a session has of [Spare].
type borrowed struct {
	from *Spare
	n    atomic.Int32
}

// took is called with what came from the channel.
func (b *borrowed) took() { b.n.Add(1) }

// back returns what was taken.
func (b *borrowed) back(e *source.Entries) {
	if e.Room() > spareBytes {
		e = new(source.Entries)
	}
	b.from.entries <- e
	b.n.Add(-1)
}

// end replaces what was not returned, at the end of the session.
func (b *borrowed) end() {
	for b.n.Load() > 0 {
		b.back(new(source.Entries))
	}
}
