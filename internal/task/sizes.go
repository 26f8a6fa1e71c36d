package task

import "sync"

// Sizes remembers how many rows of a sink a statement was to read last, for whoever begins next. The zero value is ready
// to use.
type Sizes struct{ all sync.Map }

type sized struct{ sink, definition int32 }

// Of is with how many rows to begin: first if nothing is known.
func (s *Sizes) Of(sink, definition int32, first int) int {
	if rows, known := s.all.Load(sized{sink, definition}); known {
		return rows.(int)
	}
	return first
}

// Note says how many rows the next statement is to read.
func (s *Sizes) Note(sink, definition int32, rows int) {
	s.all.Store(sized{sink, definition}, rows)
}

// Forget is for when what was noted does not count any more.
func (s *Sizes) Forget(sink, definition int32) { s.all.Delete(sized{sink, definition}) }
