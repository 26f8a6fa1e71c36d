package backfill

import (
	"context"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/task"
)

// As long as nothing is written, whoever reads is told so, and is not held up with its statement open.
func TestFeedWaitsForNothingButPieces(t *testing.T) {
	t.Parallel()
	for _, perPart := range []int{1, partPieces} {
		free, parts := queues()
		w := &walk{r: &Range{Config: task.Config{Traffic: new(task.Traffic)}}}
		f := &feed{walk: w, free: free, parts: parts, first: true}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		taken := 0
		for {
			e, err := f.Empty(ctx, time.Now().Add(20*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			if e == nil {
				break
			}
			if err := f.Take(ctx, source.Piece{Rows: 1, Upper: []string{"1"}, Entries: e}); err != nil {
				t.Fatalf("piece %d: %v", taken+1, err)
			}
			if taken++; taken%perPart == 0 {
				if err := f.flush(ctx, false); err != nil {
					t.Fatalf("piece %d: %v", taken, err)
				}
			}
		}
		if err := f.flush(ctx, true); err != nil {
			t.Fatal(err)
		}
		if taken != inMemory {
			t.Errorf("%d pieces were taken, want %d", taken, inMemory)
		}
		close(parts)
		rows, last := 0, false
		for p := range parts {
			rows += p.rows()
			last = p.end
		}
		if rows != taken || !last {
			t.Errorf("%d rows of %d in the parts, end: %v", rows, taken, last)
		}
	}
}
