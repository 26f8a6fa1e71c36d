package source

import "sync/atomic"

// fewestRows is how many rows of the change table a claim may read at least, however many tuples
// those of the last one had.
const fewestRows = 256

// packing knows how many tuples rows of the change table have, for a claim to read no more of
// them than it has use for.
type packing struct {
	// tuples is how many each row of the last claim had; 0 if there was none.
	tuples atomic.Int64
}

// rows bounds the rows of a claim.
func (p *packing) rows(limit int) int {
	return max(limit/int(max(p.tuples.Load(), 1))+1, min(limit, fewestRows))
}

// was says how many tuples and rows a claim had.
func (p *packing) was(tuples, rows int) {
	if rows > 0 {
		p.tuples.Store(int64(tuples / rows))
	}
}
