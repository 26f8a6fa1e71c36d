package source

import "sync/atomic"

// longestRest bounds how often what turned out wrong is not tried again.
const longestRest = 64

// hunch says whether to try what is quicker where it works, and costs something where it does not: the more often it did
// not, the less.
type hunch struct{ wait, rest atomic.Int32 }

// try reports whether it is worth while.
func (h *hunch) try() bool {
	if h.wait.Load() > 0 {
		h.wait.Add(-1)
		return false
	}
	return true
}

// were says how it turned out.
func (h *hunch) were(right bool) {
	if right {
		h.rest.Store(0)
		return
	}
	rest := min(max(2*h.rest.Load(), 1), longestRest)
	h.rest.Store(rest)
	h.wait.Store(rest)
}
