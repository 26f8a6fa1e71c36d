package lane

import (
	"testing"
	"time"
)

// A batch grows with what is pending as far as it takes a second, and shrinks where its entries take long.
func TestBatchesGrowWithWhatIsPending(t *testing.T) {
	for _, c := range []struct {
		name                 string
		limit, most, changes int
		took                 time.Duration
		next, ahead          int
	}{
		{name: "in no time", limit: 250, most: 100_000, changes: 250, took: 0, next: 2000, ahead: 16_000},
		{name: "quickly", limit: 250, most: 100_000, changes: 250, took: 50 * time.Millisecond, next: 2000, ahead: 5000},
		{name: "fewer than were asked for, quickly", limit: 2000, most: 100_000, changes: 1000, took: 20 * time.Millisecond, next: 16_000, ahead: 50_000},
		{name: "as many as a second has time for", limit: 10_000, most: 100_000, changes: 10_000, took: 400 * time.Millisecond, next: 25_000, ahead: 25_000},
		{name: "the most", limit: 64_000, most: 100_000, changes: 64_000, took: 100 * time.Millisecond, next: 100_000, ahead: 100_000},
		{name: "they took too long", limit: 10_000, most: 100_000, changes: 10_000, took: 1500 * time.Millisecond, next: 6666, ahead: 6666},
		{name: "by far", limit: 10_000, most: 100_000, changes: 10_000, took: time.Minute, next: 5000, ahead: 5000},
		{name: "few that took too long", limit: 10_000, most: 100_000, changes: 3, took: 2 * time.Second, next: 5000, ahead: 5000},
		{name: "the fewest", limit: 12, most: 100_000, changes: 12, took: time.Minute, next: minBatch, ahead: minBatch},
		{name: "fewer than there were", limit: 100_000, most: 32_000, changes: 100_000, took: time.Millisecond, next: 32_000, ahead: 32_000},
	} {
		if next, ahead := nextLimit(c.limit, c.most, c.changes, c.took); next != c.next || ahead != c.ahead {
			t.Errorf("%s: %d and %d, want %d and %d", c.name, next, ahead, c.next, c.ahead)
		}
	}
}
