package task

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever comes back is not waited for much longer than a second.
func TestBackoffGrowsToItsCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackoff()
		var longest time.Duration
		for i := range 50 {
			began := time.Now()
			if !b.Wait(t.Context(), nil) {
				t.Fatal("it was not waited")
			}
			d := time.Since(began)
			if i == 0 && d > 100*time.Millisecond {
				t.Errorf("the first try waited %s", d)
			}
			longest = max(longest, d)
		}
		if longest < 500*time.Millisecond || longest > 1500*time.Millisecond {
			t.Errorf("the longest wait was %s", longest)
		}
	})
}
