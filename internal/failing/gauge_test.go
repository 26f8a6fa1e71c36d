package failing

import (
	"testing"
	"time"
)

func TestOnlyTheLastMinuteCounts(t *testing.T) {
	var g gauge
	begin := time.Unix(1_700_000_000, 0)
	for second := range 200 {
		g.add(begin.Add(time.Duration(second)*time.Second), 10, 1)
	}
	if looked, failed := g.sum(begin.Add(199 * time.Second)); looked != 600 || failed != 60 {
		t.Errorf("%d of %d; want 60 of 600", failed, looked)
	}
	// A pause empties it, though no second in it was counted anew.
	if looked, failed := g.sum(begin.Add(199*time.Second + span)); looked != 0 || failed != 0 {
		t.Errorf("%d of %d after a minute's pause", failed, looked)
	}
	g.add(begin.Add(300*time.Second), 5, 2)
	g.add(begin.Add(300*time.Second), 5, 2)
	if looked, failed := g.sum(begin.Add(300 * time.Second)); looked != 10 || failed != 4 {
		t.Errorf("%d of %d; want 4 of 10", failed, looked)
	}
}

func TestThresholdIsAShareAndANumber(t *testing.T) {
	for _, c := range []struct {
		looked, failed int
		want           bool
	}{
		{1000, 1000, false}, {1001, 1001, true}, {20_000, 1000, false}, {20_000, 1001, true}, {30_000, 1001, false}, {30_000, 1501, true}, {0, 0, false},
	} {
		if got := tooMany(c.looked, c.failed); got != c.want {
			t.Errorf("%d of %d: %v", c.failed, c.looked, got)
		}
	}
}
