package cursor

// Range are the transaction ids from Lo to Hi.
type Range struct{ Lo, Hi uint64 }

// Since are the transactions that s sees and old does not, as ranges in ascending order: those that
// freshet.window_ranges returns.
func (s Snapshot) Since(old Snapshot) []Range {
	var ranges []Range
	for _, xid := range old.Xip {
		if s.Sees(xid) {
			ranges = append(ranges, Range{xid, xid})
		}
	}
	next := old.Xmax
	for _, running := range s.Xip {
		if running < next {
			continue
		}
		if running > next {
			ranges = append(ranges, Range{next, running - 1})
		}
		next = running + 1
	}
	if s.Xmax > next {
		ranges = append(ranges, Range{next, s.Xmax - 1})
	}
	return ranges
}

// Walk follows what is read of a change table: range by range, of each the changes in the order of xid and id, and then its end. So it
// knows whether anything was passed over.
type Walk struct {
	// left are the ranges from the one on that it is in.
	left []Range
	// Xid and ID are the place of the last change.
	Xid uint64
	ID  int64
}

// NewWalk begins before the first range.
func NewWalk(ranges []Range) Walk { return Walk{left: ranges} }

// Next goes on to a change. False: it is not after the last one, or not of the range that the walk is in.
func (w *Walk) Next(xid uint64, id int64) bool {
	if len(w.left) == 0 || xid < w.left[0].Lo || xid > w.left[0].Hi || xid < w.Xid || xid == w.Xid && id <= w.ID {
		return false
	}
	w.Xid, w.ID = xid, id
	return true
}

// End goes on to the end of a range, given its last transaction. False: it is not in that one.
func (w *Walk) End(hi uint64) bool {
	if len(w.left) == 0 || w.left[0].Hi != hi {
		return false
	}
	w.left = w.left[1:]
	return true
}

// Ended reports whether all ranges have ended.
func (w *Walk) Ended() bool { return len(w.left) == 0 }
