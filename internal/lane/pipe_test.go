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
		want                 int
	}{
		{name: "what it asked for is not there", limit: 250, most: 1000, changes: 249, took: time.Millisecond, want: 250},
		{name: "all that it asked for, in no time", limit: 250, most: 100_000, changes: 250, took: 0, want: 2000},
		{name: "all that it asked for, quickly", limit: 250, most: 100_000, changes: 250, took: time.Millisecond, want: 2000},
		{name: "as many as a second has time for", limit: 10_000, most: 100_000, changes: 10_000, took: 400 * time.Millisecond, want: 25_000},
		{name: "the most", limit: 64_000, most: 100_000, changes: 64_000, took: 100 * time.Millisecond, want: 100_000},
		{name: "they took too long", limit: 10_000, most: 100_000, changes: 10_000, took: 1500 * time.Millisecond, want: 6666},
		{name: "by far", limit: 10_000, most: 100_000, changes: 10_000, took: time.Minute, want: 5000},
		{name: "few that took too long", limit: 10_000, most: 100_000, changes: 3, took: 2 * time.Second, want: 5000},
		{name: "the fewest", limit: 12, most: 100_000, changes: 12, took: time.Minute, want: minBatch},
		{name: "fewer than there were", limit: 100_000, most: 32_000, changes: 100_000, took: time.Millisecond, want: 32_000},
	} {
		if got := nextLimit(c.limit, c.most, c.changes, c.took); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
