package integration

import "testing"

// jobForEpoch enqueues another job for the first lane under the epoch that it has.
const jobForEpoch = `select freshet.enqueue('sync', 'target_default', jsonb_build_object('lease', id, 'epoch', epoch)) from freshet.lease where kind = 'sync'`

// A job that is there twice, as after a restore of the queue or by hand, finds the lane taken.
func TestSecondJobForALaneDoesNothing(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 400) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	_, first := e.worker()
	e.settle()
	e.worker()
	const lane = "select holder || ' ' || epoch from freshet.lease where kind = 'sync'"
	held := one[string](e.admin(), lane)
	if !e.holds(first) {
		t.Fatal("the first worker does not have the lane")
	}
	stopTracking := e.tracked("counters:1", "counters:11")
	stop := e.load()
	for range 5 {
		e.admin().exec(jobForEpoch)
		e.await("the job is over", func() bool {
			return one[int](e.admin(), "select count(*) from freshet.river_job where kind = 'sync' and state in ('available', 'running')") == 1
		})
		e.awaitVersion("counters:1", e.raise())
	}
	stop()
	e.settle()
	stopTracking()
	e.inStep("counters:*", countersPromise("counters"))
	if now := one[string](e.admin(), lane); now != held {
		t.Errorf("the lane was %s and is %s", held, now)
	}
}

// Two workers that believe in the same epoch have the same fence. Each write is refused that
// does not follow on the one before it, whoever made that one.
func TestTwoWorkersOfOneEpochDoNotOverwriteEachOther(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 400) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.worker()
	e.settle()
	e.worker()
	stopTracking := e.tracked("counters:1", "counters:11", "counters:21", "counters:31")
	stop := e.load()
	for range 5 {
		before := one[string](e.admin(), "select holder from freshet.lease where kind = 'sync'")
		e.admin().exec("update freshet.lease set holder = null where kind = 'sync'")
		e.admin().exec(jobForEpoch)
		e.await("somebody takes it once more", func() bool {
			return one[bool](e.admin(), "select holder is not null from freshet.lease where kind = 'sync'")
		})
		t.Logf("%s, then %s", before, one[string](e.admin(), "select holder from freshet.lease where kind = 'sync'"))
		e.awaitVersion("counters:1", e.raise())
	}
	stop()
	e.settle()
	stopTracking()
	e.inStep("counters:*", countersPromise("counters"))
}
