package cursor_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/cursor"
)

// place is of a change, or the end of a range.
type place struct {
	xid uint64
	id  int64
	end bool
}

// walked reports whether places are all there is of ranges.
func walked(ranges []cursor.Range, places []place) bool {
	w := cursor.NewWalk(ranges)
	for _, p := range places {
		if p.end && !w.End(p.xid) || !p.end && !w.Next(p.xid, p.id) {
			return false
		}
	}
	return w.Ended()
}

func TestWalkSeesWhatWasPassedOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		older, newer := snapshots(most).Draw(t, "old"), snapshots(most).Draw(t, "new")
		ranges := newer.Since(older)
		var all []place
		for _, r := range ranges {
			for xid := r.Lo; xid <= r.Hi; xid++ {
				for id := range rapid.Int64Range(0, 2).Draw(t, "changes") {
					all = append(all, place{xid: xid, id: id + 1})
				}
			}
			all = append(all, place{xid: r.Hi, end: true})
		}
		if !walked(ranges, all) {
			t.Fatalf("%v: %v is all there is", ranges, all)
		}
		if len(all) == 0 {
			return
		}
		i := rapid.IntRange(0, len(all)-1).Draw(t, "from")
		if walked(ranges, all[:i]) {
			t.Errorf("%v: %v is not all", ranges, all[:i])
		}
		var without []place
		for n, p := range all {
			if n != i {
				without = append(without, p)
			}
		}
		if all[i].end && walked(ranges, without) {
			t.Errorf("%v: in %v is an end missing", ranges, without)
		}
		if i > 0 {
			all[i-1], all[i] = all[i], all[i-1]
			if walked(ranges, all) {
				t.Errorf("%v: %v is in no order", ranges, all)
			}
		}
	})
}
