package cursor_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/cursor"
)

type place struct {
	xid uint64
	id  int64
}

// walked reports whether places are all there is of ranges.
func walked(ranges []cursor.Range, places []place) bool {
	w := cursor.NewWalk(ranges)
	for _, p := range places {
		if !w.Next(p.xid, p.id) {
			return false
		}
	}
	return w.Ended()
}

func TestWalkSeesWhatWasPassedOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		older, newer := snapshots(most).Draw(t, "old"), snapshots(most).Draw(t, "new")
		ranges := newer.Since(older)
		var parts [][]place
		for _, r := range ranges {
			var part []place
			for xid := r.Lo; xid <= r.Hi; xid++ {
				for id := range rapid.Int64Range(0, 2).Draw(t, "changes") {
					part = append(part, place{xid, id + 1})
				}
			}
			if part == nil {
				part = []place{{r.Hi, math.MaxInt64}}
			}
			parts = append(parts, part)
		}
		flat := func(parts ...[]place) (all []place) {
			for _, part := range parts {
				all = append(all, part...)
			}
			return all
		}
		if !walked(ranges, flat(parts...)) {
			t.Fatalf("%v: %v is all there is", ranges, parts)
		}
		if len(parts) == 0 {
			return
		}
		i := rapid.IntRange(0, len(parts)-1).Draw(t, "missing")
		if some := flat(flat(parts[:i]...), flat(parts[i+1:]...)); walked(ranges, some) {
			t.Errorf("%v: nothing of range %d is in %v", ranges, i, some)
		}
		if some := flat(parts[:i]...); walked(ranges, some) {
			t.Errorf("%v: ranges from %d on are missing in %v", ranges, i, some)
		}
		all := flat(parts...)
		if len(all) > 1 {
			i := rapid.IntRange(1, len(all)-1).Draw(t, "swapped")
			all[i-1], all[i] = all[i], all[i-1]
			if walked(ranges, all) {
				t.Errorf("%v: %v is in no order", ranges, all)
			}
		}
	})
}
