package cursor_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/cursor"
)

// snapshots draws snapshots as Postgres makes them: the transaction below xmax has
// ended, and xmin is the oldest that runs. Transaction ids are few, so that two
// snapshots have much to do with each other.
func snapshots(most uint64) *rapid.Generator[cursor.Snapshot] {
	return rapid.Custom(func(t *rapid.T) cursor.Snapshot {
		xmax := rapid.Uint64Range(10, most).Draw(t, "xmax")
		s := cursor.Snapshot{Xmin: xmax, Xmax: xmax}
		for xid := rapid.Uint64Range(10, xmax).Draw(t, "from"); xid+1 < xmax; xid++ {
			if rapid.Bool().Draw(t, "running") {
				s.Xip = append(s.Xip, xid)
			}
		}
		if len(s.Xip) > 0 {
			s.Xmin = s.Xip[0]
		}
		return s
	})
}

func TestCursorComesBackFromItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := cursor.Cursor{Done: snapshots(60).Draw(t, "done")}
		if rapid.Bool().Draw(t, "inside") {
			want = want.At(snapshots(60).Draw(t, "window"), rapid.Uint64().Draw(t, "xid"), rapid.Int64().Draw(t, "id"))
		}
		got, err := cursor.Parse(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() || (got.Window == nil) != (want.Window == nil) || got.Xid != want.Xid || got.ID != want.ID {
			t.Fatalf("%q came back as %q", want, got)
		}
	})
}

func TestCursorMovesThroughItsWindow(t *testing.T) {
	done, window := cursor.Snapshot{Xmin: 10, Xmax: 10}, cursor.Snapshot{Xmin: 12, Xmax: 20, Xip: []uint64{12}}
	inside := cursor.Finished(done).At(window, 15, 7).At(window, 15, 9)
	if got, want := inside.String(), "10:10: 12:20:12 15 9"; got != want {
		t.Errorf("inside the window: %q, want %q", got, want)
	}
	if got, want := cursor.Finished(window).String(), "12:20:12"; got != want {
		t.Errorf("after the window: %q, want %q", got, want)
	}
}

func TestParseRefusesWhatIsNoCursor(t *testing.T) {
	for _, text := range []string{
		"", " ", "10", "10:10", "10:10:,", "10:9:", "a:10:", "10:b:", "-1:10:", "10:12:9", "10:12:12", "10:14:12,11", "10:14:11,11", "10:14:x",
		"10:10: 10:10:", "10:10: 10:10: 1", "10:10: 10:10: x 1", "10:10: 10:10: 1 x", "10:10: 10:10: 1 1 1", "10:10:  1 1", " 10:10:", "10:10: ",
		"99999999999999999999:99999999999999999999:",
	} {
		if c, err := cursor.Parse(text); err == nil {
			t.Errorf("%q is taken for the cursor %v", text, c)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"10:10:", "10:20:11,15", "10:10: 12:20:12 15 -9", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := cursor.Parse(text)
		if err != nil {
			return
		}
		again, err := cursor.Parse(c.String())
		if err != nil || again.String() != c.String() {
			t.Errorf("%q is the cursor %q, which comes back as %q, %v", text, c, again, err)
		}
	})
}

func FuzzParseSnapshot(f *testing.F) {
	for _, seed := range []string{"10:10:", "10:20:11,15", "0:18446744073709551615:", "1:2:3:4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := cursor.ParseSnapshot(text)
		if err != nil {
			return
		}
		again, err := cursor.ParseSnapshot(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is the snapshot %q, which comes back as %q, %v", text, s, again, err)
		}
		if !s.Covers(s) {
			t.Errorf("%s does not cover itself", s)
		}
		for _, xid := range s.Xip {
			if s.Sees(xid) {
				t.Errorf("%s sees %d, which runs", s, xid)
			}
		}
	})
}
