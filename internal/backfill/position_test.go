package backfill

import (
	"slices"
	"testing"
)

func TestReachedIsReadAsItWasWritten(t *testing.T) {
	for _, tuple := range [][]string{nil, {"1"}, {"a", "b"}, {"]+3:4"}, {`"`, `\`, "<&>"}, {"ü\n\ufffd"}, {""}} {
		for _, r := range []reached{{Position(tuple), 3, 2000}, {position: Position(tuple)}} {
			cursor := r.String()
			got := parseReached(cursor)
			if got != r {
				t.Errorf("%s is read as %+v, want %+v", cursor, got, r)
			}
			if back, sure := got.tuple(); !sure || !slices.Equal(back, tuple) {
				t.Errorf("%s has the tuple %q, want %q; sure: %v", cursor, back, tuple, sure)
			}
		}
	}
}

func TestWhatTheCursorDoesNotSayIsNotReadFromIt(t *testing.T) {
	for _, cursor := range []string{"", "100:110:", Position([]string{"\xff"}), `["1"`, "}", reached{`["1"]`, 3, unknown}.String()} {
		if tuple, sure := parseReached(cursor).tuple(); sure {
			t.Errorf("%q is read as the tuple %q", cursor, tuple)
		}
	}
	for _, cursor := range []string{`["1"]+`, `["1"]+3`, `["1"]+3:x`, `["1"]+x:3`} {
		if got := parseReached(cursor); got != (reached{position: `["1"]`}) {
			t.Errorf("%q is read as %+v", cursor, got)
		}
	}
}
