package integration

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// scraped is what /metrics says: values by series, as in name{label="value"}.
type scraped map[string]float64

func (e *env) scrape(w *worker.Worker) scraped {
	e.t.Helper()
	status, text := page(w, "/metrics")
	if status != http.StatusOK {
		e.t.Fatalf("metrics: %d %s", status, text)
	}
	found := make(scraped)
	for line := range strings.Lines(text) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			series += "}"
		} else {
			series, value, ok = strings.Cut(strings.TrimSpace(line), " ")
		}
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			e.t.Fatalf("metrics: %q: %v", line, err)
		}
		if _, twice := found[series]; twice {
			e.t.Fatalf("metrics: %s twice", series)
		}
		found[series] = v
	}
	return found
}

// awaitSeries waits until a series satisfies want, and returns the whole scrape.
func (e *env) awaitSeries(w *worker.Worker, series string, want func(float64, bool) bool) scraped {
	e.t.Helper()
	var s scraped
	deadline := time.Now().Add(patience)
	for {
		s = e.scrape(w)
		v, ok := s[series]
		if want(v, ok) {
			return s
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("gave up waiting for %s: it is %v (%v); there are %s", series, v, ok,
				strings.Join(slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(n string) bool { return !strings.HasPrefix(n, "freshet_") }), "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func atLeast(least float64) func(float64, bool) bool {
	return func(v float64, ok bool) bool { return ok && v >= least }
}

const usersLane = `{shard="0",sink="users",target="default"}`

func TestCountersMoveByWhatWasDone(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()

	const written, deleted = "freshet_entries_written_total" + usersLane, "freshet_entries_deleted_total" + usersLane
	before := e.scrape(w)
	if rows := before[`freshet_backfill_rows_total{sink="users",target="default"}`]; rows != 100 {
		t.Errorf("a backfill of 100 rows counted %v", rows)
	}
	e.exec("update users set name = 'other' where id <= 10")
	e.exec("delete from users where id > 95")
	e.settle()
	after := e.scrape(w)
	if n := after[written] - before[written]; n != 10 {
		t.Errorf("10 updates counted as %v entries written", n)
	}
	if n := after[deleted] - before[deleted]; n != 5 {
		t.Errorf("5 deletions counted as %v entries deleted", n)
	}
	if n := after["freshet_batches_total"+usersLane] - before["freshet_batches_total"+usersLane]; n < 1 || n > 2 {
		t.Errorf("2 transactions counted as %v batches", n)
	}
	for series, want := range map[string]float64{
		"freshet_entries_failed_total" + usersLane:                   0,
		`freshet_fenced_writes_total{sink="users",target="default"}`: 0,
		`freshet_leases_held{kind="sync"}`:                           1,
		`freshet_leases_held{kind="backfill"}`:                       0,
		"freshet_takeovers_total":                                    0,
		"freshet_heartbeat_failures_total":                           0,
	} {
		if got, ok := after[series]; !ok || got != want {
			t.Errorf("%s is %v (%v); want %v", series, got, ok, want)
		}
	}
	for series := range after {
		if strings.HasPrefix(series, "freshet_redis_errors_total") || strings.HasPrefix(series, "freshet_postgres_errors_total") || strings.HasPrefix(series, "freshet_rewarms_total") {
			t.Errorf("nothing went wrong, and there is %s", series)
		}
	}
	e.awaitSeries(w, "freshet_lag_seconds"+usersLane, func(v float64, ok bool) bool { return ok && v < 2 })
	bytes := e.awaitSeries(w, `freshet_change_table_bytes{source="public.users"}`, atLeast(1))[`freshet_change_table_bytes{source="public.users"}`]
	if want := one[float64](e, "select sum(pg_total_relation_size(c))::float8 from unnest(array['freshet.changes_1'::regclass, 'freshet.changes_1_1'::regclass]) c"); bytes > want || bytes < want/2 {
		t.Errorf("the change tables are said to have %v bytes; they have %v", bytes, want)
	}
	if age := after["freshet_heartbeat_age_seconds"]; age < 0 || age > 5 {
		t.Errorf("the heartbeat is %v s old", age)
	}
}

func TestPausedSinkShowsItsLagAndWhatIsPending(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	e.exec("select freshet.pause_sink('users')")
	e.awaitSeries(w, "freshet_lag_seconds"+usersLane, atLeast(1.5))
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 25) g")
	e.awaitSeries(w, "freshet_pending_changes"+usersLane, func(v float64, ok bool) bool { return ok && v == 25 })
	e.exec("select freshet.resume_sink('users')")
	e.awaitSeries(w, "freshet_pending_changes"+usersLane, func(v float64, ok bool) bool { return ok && v == 0 })
	e.awaitSeries(w, "freshet_lag_seconds"+usersLane, func(v float64, ok bool) bool { return ok && v < 1.5 })
}

// stateOf is the series of a state of a sink on a target.
func stateOf(sink, target, state string) string {
	return fmt.Sprintf("freshet_sink_state{sink=%q,state=%q,target=%q}", sink, state, target)
}

func is(want float64) func(float64, bool) bool {
	return func(v float64, ok bool) bool { return ok && v == want }
}

func TestStateOfEverySinkIsShownWhoeverServesIt(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,edge}', backfill => false)")
	w, _ := e.startWith(func(*worker.Config) {})
	e.awaitSeries(w, stateOf("users", "default", "live"), is(1))
	s := e.awaitSeries(w, stateOf("users", "edge", "unserved"), is(1))
	for _, state := range metrics.States() {
		for target, now := range map[string]string{"default": "live", "edge": "unserved"} {
			want := 0.0
			if state == now {
				want = 1
			}
			if v, ok := s[stateOf("users", target, state)]; !ok || v != want {
				t.Errorf("%s is %v (%v); want %v", stateOf("users", target, state), v, ok, want)
			}
		}
	}
	e.exec("select freshet.pause_sink('users')")
	s = e.awaitSeries(w, stateOf("users", "default", "paused"), is(1))
	if v := s[stateOf("users", "default", "live")]; v != 0 {
		t.Errorf("a sink that is paused is live as well: %v", v)
	}
}

// What could not be captured may be missing in the cache, however far the lane has come.
func TestLagCountsFromWhatWasNotCaptured(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	const gaps, lag = `freshet_capture_gaps{source="public.users"}`, "freshet_lag_seconds" + usersLane
	e.awaitSeries(w, gaps, is(0))
	// Nobody looks at it for now.
	e.admin().exec(`
		with later as (update freshet.source set mend_after = now() + interval '1 hour')
		insert into freshet.capture_gap (source_id, at, operation, code, message)
		values (1, now() - interval '100 seconds', 'update', '54000', 'too large'), (1, now(), 'update', '54000', 'too large')`)
	e.awaitSeries(w, gaps, is(2))
	e.awaitSeries(w, lag, func(v float64, ok bool) bool { return ok && v >= 100 && v < 200 })
	e.admin().exec("update freshet.source set mend_after = null")
	e.awaitSeries(w, gaps, is(0))
	e.awaitSeries(w, lag, func(v float64, ok bool) bool { return ok && v < 2 })

	// Mending fails without a gap, as when the owner may not use Freshet any more.
	e.admin().exec("update freshet.source set mend_after = now() + interval '1 hour', mend_error = 'may not'")
	e.awaitSeries(w, lag, func(v float64, ok bool) bool { return ok && v > 6 })
	e.awaitSeries(w, stateOf("users", "default", "failing"), is(1))
	e.admin().exec("update freshet.source set mend_after = null")
	e.awaitSeries(w, lag, func(v float64, ok bool) bool { return ok && v < 2 })
}

func TestNothingIsLeftOfADroppedSink(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users'), freshet.create_sink('kept', 'users', key => 'kept:${id}')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	e.exec("insert into users (id, name) values (1, 'Ada')")
	e.settle()
	e.awaitSeries(w, "freshet_entries_written_total"+usersLane, atLeast(1))
	e.exec("select freshet.drop_sink('users')")
	e.await("no series names the sink", func() bool {
		for series := range e.scrape(w) {
			if strings.Contains(series, `sink="users"`) {
				return false
			}
		}
		return true
	})
	e.awaitSeries(w, `freshet_entries_written_total{shard="0",sink="kept",target="default"}`, atLeast(1))
}

func TestRefusedWriteIsCounted(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'Ada')")
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	tx := e.begin()
	// The lane reads the table that is locked: it is not idle, so only its write finds out.
	e.in(tx, "lock table users in access exclusive mode")
	e.exec("select freshet.refresh('users', 1)")
	e.await("the lane reads", func() bool {
		return one[bool](e, "select exists (select from pg_locks where not granted and relation = 'users'::regclass)")
	})
	control := fmt.Sprintf("freshet:%s:1:0", one[string](e.admin(), "select id from freshet.installation"))
	fence := strings.Fields(e.redis.HGet(t.Context(), control, "fence").Val())
	fence[3] = "another"
	if err := e.redis.HSet(t.Context(), control, "fence", strings.Join(fence, " ")).Err(); err != nil {
		t.Fatal(err)
	}
	e.commit(tx)
	e.settle()
	s := e.awaitSeries(w, `freshet_fenced_writes_total{sink="users",target="default"}`, atLeast(1))
	for _, series := range []string{`freshet_fenced_writes_total{sink="users",target="default"}`, `freshet_redis_errors_total{kind="fenced",target="default"}`} {
		if s[series] != 1 {
			t.Errorf("one refused write, and %s is %v", series, s[series])
		}
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'Ada')")
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	redisErrors := func(kind string) string {
		return fmt.Sprintf(`freshet_redis_errors_total{kind=%q,target="default"}`, kind)
	}
	config := func(name, value string) {
		if err := e.redis.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	config("maxmemory", "1")
	e.exec("update users set name = 'refused'")
	e.awaitSeries(w, redisErrors("oom"), atLeast(1))
	config("maxmemory", "0")
	config("min-replicas-to-write", "1")
	e.exec("update users set name = 'refused again'")
	e.awaitSeries(w, redisErrors("noreplicas"), atLeast(1))
	config("min-replicas-to-write", "0")
	e.settle()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	e.exec("update users set name = 'away'")
	e.awaitSeries(w, redisErrors("connection"), atLeast(1))
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It came back empty.
	const lost = `freshet_rewarms_total{cause="lost",sink="users"}`
	e.awaitSeries(w, lost, atLeast(1))
	e.settle()

	const shutDown = `freshet_postgres_errors_total{kind="57"}`
	e.await("the end of a connection is counted", func() bool {
		// Statements that are running get the error; there may be none at the moment.
		if _, err := e.super.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'freshet%'"); err != nil {
			t.Fatal(err)
		}
		s := e.scrape(w)
		return s[shutDown] > 0 || s[`freshet_postgres_errors_total{kind="connection"}`] > 0
	})
	e.settle()
	if n := e.scrape(w)[lost]; n != 1 {
		t.Errorf("one loss counted as %v re-warms", n)
	}
	e.inStep("users:*", usersPromise)
}

func TestTakeoverIsCounted(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	p, id := e.worker()
	e.await("the process has the lane", func() bool { return e.holds(id) })
	w, _ := e.startWith(func(*worker.Config) {})
	if _, held := e.scrape(w)["freshet_lag_seconds"+usersLane]; held {
		t.Error("a lane of another worker is shown")
	}
	p.kill()
	e.awaitSeries(w, "freshet_takeovers_total", atLeast(1))
	e.awaitSeries(w, "freshet_lag_seconds"+usersLane, atLeast(0))
}

// row of the table of metrics: | `name` | type | labels | meaning |
var metricRow = regexp.MustCompile("(?m)^\\| `(freshet_[a-z_]+)` \\| (counter|gauge) \\| ([^|]*)\\|")

func TestReadmeListsEveryMetric(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	for _, row := range metricRow.FindAllStringSubmatch(string(readme), -1) {
		listed[row[1]] = row[2] + " " + strings.NewReplacer("`", "", ",", "").Replace(strings.TrimSpace(row[3]))
	}
	for _, d := range metrics.Definitions() {
		want := strings.TrimSpace(d.Type + " " + strings.Join(d.Labels, " "))
		if got := strings.TrimSpace(listed[d.Name]); got != want {
			t.Errorf("README says of %s %q; it is %q", d.Name, got, want)
		}
		delete(listed, d.Name)
	}
	for name := range listed {
		t.Errorf("README lists %s, which there is not", name)
	}
}

func TestOnlyDefinedMetricsAreShown(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	e.awaitSeries(w, "freshet_pending_changes"+usersLane, atLeast(0))
	defined := make(map[string]bool)
	for _, d := range metrics.Definitions() {
		defined[d.Name] = true
	}
	// What has not happened yet has no series.
	rare := []string{"freshet_rewarms_total", "freshet_redis_errors_total", "freshet_postgres_errors_total"}
	shown := make(map[string]bool)
	for series := range e.scrape(w) {
		name, _, _ := strings.Cut(series, "{")
		if strings.HasPrefix(name, "freshet_") && !defined[name] {
			t.Errorf("%s is not defined", name)
		}
		shown[name] = true
	}
	for name := range defined {
		if !shown[name] && !slices.Contains(rare, name) {
			t.Errorf("%s is not shown", name)
		}
	}
}

func TestFailedEntriesAreCounted(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id, x) select g, case when g <= 3 then 7 else 1 end from generate_series(1, 100) g")
	e.exec(measuresSink)
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	// What the backfill found, and then what the lane did; both are tried again and counted again.
	e.awaitSeries(w, `freshet_entries_failed_total{shard="",sink="measures",target="default"}`, func(v float64, ok bool) bool { return ok && v == 3 })
	e.exec("update measures set x = 7 where id between 4 and 10")
	e.awaitSeries(w, `freshet_entries_failed_total{shard="0",sink="measures",target="default"}`, atLeast(7))
	if kind := e.scrape(w)[`freshet_postgres_errors_total{kind="22"}`]; kind < 1 {
		t.Errorf("divisions by zero counted as %v errors of class 22", kind)
	}
	// How many there are, however often each was tried.
	const failing = `freshet_failing_entries{sink="measures",target="default"}`
	e.awaitSeries(w, failing, is(10))
	e.exec("update measures set x = 1")
	e.awaitSeries(w, failing, is(0))
}

func TestRewarmForWhatWasNotCapturedIsCounted(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	w, _ := e.startWith(func(*worker.Config) {})
	e.settle()
	e.exec("drop table freshet.changes_1 cascade")
	e.exec("update users set name = 'missed'")
	e.mended()
	e.inStep("users:*", usersPromise)
	// Each is counted under one cause: the lane may find out as well, that its changes are gone.
	e.await("every re-warm is counted", func() bool {
		counted := 0.0
		for series, n := range e.scrape(w) {
			if strings.HasPrefix(series, "freshet_rewarms_total{") {
				t.Logf("%s %v", series, n)
				counted += n
			}
		}
		return counted == float64(e.rewarms())
	})
	e.awaitSeries(w, `freshet_rewarms_total{cause="capture",sink="users"}`, atLeast(1))
	// The change tables are others now.
	e.awaitSeries(w, `freshet_change_table_bytes{source="public.users"}`, atLeast(1))
}
