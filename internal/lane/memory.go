package lane

import (
	"sync/atomic"

	"github.com/freshet/freshet/internal/source"
)

// Memory is what the lanes of a worker share of it, for the worker not to need the more the more of them are far behind at once.
type Memory struct {
	// spare is for parts of batches beside those that each lane has for itself: more of them are in memory at once where only some lanes
	// are far behind, and not where all are.
	spare chan *source.Entries
	// behind is how many lanes are far behind, and most how many can be with batches as large as they get.
	behind atomic.Int32
	most   int
}

// NewMemory makes memory for so many spare parts, and for so many lanes with large batches.
func NewMemory(parts, lanes int) *Memory {
	m := &Memory{spare: make(chan *source.Entries, parts), most: lanes}
	for range parts {
		m.spare <- source.Shared()
	}
	return m
}

// portion is a lane's part of n for each lane, where more are far behind than there is room for.
func (m *Memory) portion(n int) int { return n * m.most / max(m.most, int(m.behind.Load())) }

// borrowed is what a session has of [Memory].
type borrowed struct {
	*Memory
	// parts is how many spare ones were taken and not returned.
	parts atomic.Int32
	// far: the lane is one of those that are far behind.
	far bool
}

// took is called with what came from the channel.
func (b *borrowed) took() { b.parts.Add(1) }

// back returns what was taken.
func (b *borrowed) back(e *source.Entries) {
	e.Release()
	b.spare <- e
	b.parts.Add(-1)
}

// isFar says whether the lane is far behind.
func (b *borrowed) isFar(far bool) {
	switch {
	case far && !b.far:
		b.behind.Add(1)
	case !far && b.far:
		b.behind.Add(-1)
	}
	b.far = far
}

// end replaces what was not returned, at the end of the session.
func (b *borrowed) end() {
	b.isFar(false)
	for b.parts.Load() > 0 {
		b.back(source.Shared())
	}
}
