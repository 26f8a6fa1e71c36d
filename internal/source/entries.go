package source

import "sync"

// Entries are rendered entries in one arena: keys with a value to set, and keys
// that must be absent. Reset keeps the memory for the next batch.
type Entries struct {
	arena    []byte
	items    []item
	failures []Failure
	// shared: they use memory that others have released, and from is what they have taken, nil for nothing.
	shared bool
	from   *memory
}

// Shared returns entries whose memory [Entries.Release] gives to whoever is the next to read a row.
func Shared() *Entries { return &Entries{shared: true} }

// memory is what entries were in that are written.
type memory struct {
	arena []byte
	items []item
}

// spareMemory has the size that others need.
var spareMemory = sync.Pool{New: func() any { return new(memory) }}

// spareBytes is how large an arena is at most that is kept: a large value makes it grow.
const spareBytes = 4 << 20

type item struct {
	key, value, end int
	present         bool
	// expires is when it does, in milliseconds since 1970; 0 for as all do.
	expires int64
	// failed is the place of its failure, counted from 1; 0 if there is none.
	failed int
}

// Reset empties e and keeps its memory.
func (e *Entries) Reset() {
	clear(e.failures)
	e.arena, e.items, e.failures = e.arena[:0], e.items[:0], e.failures[:0]
}

// Release empties e, which is [Shared], and keeps nothing.
func (e *Entries) Release() {
	e.Reset()
	if e.from != nil && cap(e.arena) <= spareBytes {
		e.from.arena, e.from.items = e.arena, e.items
		spareMemory.Put(e.from)
	}
	*e = Entries{failures: e.failures, shared: true}
}

// take has e use what others have released, if that is shared and it has nothing. It is called when there is something to append, and not before: who
// waits for a connection needs none.
func (e *Entries) take() {
	if e.shared && e.from == nil && len(e.items) == 0 {
		e.from = spareMemory.Get().(*memory)
		e.arena, e.items = e.from.arena, e.from.items
		*e.from = memory{}
	}
}

// Len is the number of entries.
func (e *Entries) Len() int { return len(e.items) }

// Bytes is the size of all keys and values.
func (e *Entries) Bytes() int { return len(e.arena) }

// Key returns the key of entry i, valid until Reset.
func (e *Entries) Key(i int) []byte { return e.arena[e.items[i].key:e.items[i].value] }

// Value returns the value of entry i, and false if the entry must be absent.
func (e *Entries) Value(i int) ([]byte, bool) {
	it := e.items[i]
	return e.arena[it.value:it.end], it.present
}

// Expires is when entry i expires, in milliseconds since 1970; 0 if it has no moment of its
// own.
func (e *Entries) Expires(i int) int64 { return e.items[i].expires }

// Keep drops the entries for which keep is false.
func (e *Entries) Keep(keep func(i int) bool) {
	kept := e.items[:0]
	for i := range e.items {
		if keep(i) {
			kept = append(kept, e.items[i])
		}
	}
	e.items = kept
}

// Absent are keys that must be absent, to be written like [Entries].
type Absent []string

// Len is the number of keys.
func (a Absent) Len() int { return len(a) }

// Key returns key i.
func (a Absent) Key(i int) []byte { return []byte(a[i]) }

// Value returns false for every key.
func (a Absent) Value(int) ([]byte, bool) { return nil, false }

// Expires is 0.
func (a Absent) Expires(int) int64 { return 0 }
