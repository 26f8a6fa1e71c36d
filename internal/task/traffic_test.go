package task

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRangesWorkOneAfterTheOtherWhileLiveChangesAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var traffic Traffic
		first, second := traffic.Enter(), traffic.Enter()
		began := time.Now()
		give := func(w *Way, stop <-chan struct{}) bool {
			t.Helper()
			given, err := w.Give(context.Background(), stop)
			if err != nil {
				t.Fatal(err)
			}
			return given
		}
		traffic.Batch(slowBatch - 1)
		if give(first, nil); !give(second, nil) || time.Since(began) != 0 {
			t.Fatal("somebody waited while live changes were quick")
		}

		traffic.Batch(slowBatch)
		if give(first, nil); time.Since(began) != 0 {
			t.Error("the first range waited")
		}
		stop := make(chan struct{})
		close(stop)
		if give(second, stop) {
			t.Error("the second range did not wait")
		}
		if give(second, nil); time.Since(began) != crowdedFor {
			t.Errorf("the second range waited for %s", time.Since(began))
		}

		// It need not wait any longer than there is a first one.
		traffic.Batch(slowBatch)
		began = time.Now()
		go func() {
			time.Sleep(crowdedFor / 4)
			first.Leave()
		}()
		if give(second, nil); time.Since(began) != crowdedFor/4 {
			t.Errorf("the second range waited for %s after the first had left", time.Since(began))
		}
		third := traffic.Enter()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if given, err := third.Give(ctx, nil); given || err == nil {
			t.Errorf("waited in vain: %v, %v", given, err)
		}
	})
}
