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

// Walk follows what is read of a change table range by range, each in the order of xid and id, and of a range with nothing in it
// its end. So it knows whether anything was passed over.
type Walk struct {
	// left are the ranges from the one on that it is in; begun: it is in one.
	left  []Range
	begun bool
	// Xid and ID are the place of the last one.
	Xid uint64
	ID  int64
}

// NewWalk begins before the first range.
func NewWalk(ranges []Range) Walk { return Walk{left: ranges} }

// Next goes on to a place. False: it is not after the last one, or of no range, or of one that is not the next.
func (w *Walk) Next(xid uint64, id int64) bool {
	if w.begun && (xid < w.Xid || xid == w.Xid && id <= w.ID) {
		return false
	}
	if w.begun && xid > w.left[0].Hi {
		w.left = w.left[1:]
	}
	w.begun, w.Xid, w.ID = true, xid, id
	return len(w.left) > 0 && w.left[0].Lo <= xid && xid <= w.left[0].Hi
}

// Ended reports whether no range is left behind the one that it is in.
func (w *Walk) Ended() bool { return len(w.left) == 0 || w.begun && len(w.left) == 1 }
