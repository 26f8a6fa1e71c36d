package integration

import (
	"sync"
	"testing"
)

// Rows without a key that are touched while chunks are on their way are nobody's affair.
func TestRowsWithoutAKeyDoNotDisturbBackfills(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(200)
	e.exec("create table seats (id int primary key, place int, v int not null default 0)")
	e.exec("insert into seats select g, case when g % 2 = 0 then g end from generate_series(1, 4000) g; analyze seats")
	e.exec("select freshet.create_sink('seats', 'seats', key => 'seats:${place}:${id}', backfill => false)")
	e.start()
	e.settle()
	done := make(chan struct{})
	var writers sync.WaitGroup
	stop := sync.OnceFunc(func() { close(done); writers.Wait() })
	defer stop()
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			if _, err := e.db.Exec(t.Context(), "update seats set v = v + 1 where place is null and id % 40 = 2 * ($1 % 20) + 1", n); err != nil {
				t.Error(err)
				return
			}
		}
	})
	e.backfilled(one[int64](e, "select freshet.backfill('seats')"))
	e.verifies("in step: 2000 entries, 0 stale, 0 missing, 0 orphaned", 0, "seats")
	stop()
	e.settle()
	e.inStep("seats:*", "select 'seats:' || place || ':' || id, to_jsonb(s)::text from seats s where place is not null")
	if errs := one[[]string](e.admin(), "select coalesce(array_agg(kind || ': ' || last_error), '{}') from freshet.lease where last_error is not null"); len(errs) > 0 {
		t.Errorf("errors on the way: %q", errs)
	}
}
