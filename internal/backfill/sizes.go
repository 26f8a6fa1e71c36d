package backfill

import "sync"

// Sizes remembers how many rows the chunks of a sink's ranges have come to, for the next range
// to begin with. The zero value is ready to use.
type Sizes struct{ all sync.Map }

type sized struct{ sink, definition int32 }

// of is with how many rows to begin.
func (s *Sizes) of(sink, definition int32) int {
	if rows, known := s.all.Load(sized{sink, definition}); known {
		return rows.(int)
	}
	return firstChunk
}

// note says how many rows the next chunk is to have.
func (s *Sizes) note(sink, definition int32, rows int) {
	s.all.Store(sized{sink, definition}, rows)
}

// forget is for a chunk that failed: the rows may take too long, or too much.
func (s *Sizes) forget(sink, definition int32) { s.all.Delete(sized{sink, definition}) }
