package integration

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// inRangesOf has backfills split into ranges of about so many rows.
func (e *env) inRangesOf(rows int) {
	e.t.Helper()
	e.admin().exec("update freshet.installation set range_rows = $1", rows)
}

// lastBackfill waits until the latest backfill of a sink is completed, and returns its number.
func (e *env) lastBackfill(sink string) int64 {
	e.t.Helper()
	id := one[int64](e, "select max(id) from freshet.backfills where sink = $1", sink)
	e.backfilled(id)
	return id
}

func TestBackfillsAreSplitByWhatTheTableHolds(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(1000)
	e.start()
	for _, c := range []struct {
		name, create, fill string
		// ranges is the fewest there may be, most how many rows the largest may have.
		ranges, most int
	}{
		{"empty", "create table empty (id int primary key)", "", 1, 0},
		{"single", "create table single (id int primary key)", "insert into single values (7)", 1, 1},
		{"ungathered", "create table ungathered (id int primary key)", "insert into ungathered select generate_series(1, 8000)", 2, 8000},
		{"even", "create table even (id int primary key)", "insert into even select generate_series(1, 8000); analyze even", 6, 3000},
		{"skewed", "create table skewed (id bigint primary key)",
			"insert into skewed select g from generate_series(1, 7900) g union all select g * 1000000000000 from generate_series(1, 100) g; analyze skewed", 6, 3000},
		{"pairs", "create table pairs (tenant text, id int, primary key (tenant, id))",
			"insert into pairs select case when g % 10 = 0 then 'small ' || g % 5 else 'large' end, g from generate_series(1, 8000) g; analyze pairs", 6, 3000},
		{"words", "create table words (id text primary key)",
			"insert into words select case g % 4 when 0 then 'ü' when 1 then '日本' when 2 then 'a,{b}\\ ''\"' else 'NULL' end || g from generate_series(1, 8000) g; analyze words", 6, 3000},
		{"ids", "create table ids (id uuid primary key)", "insert into ids select md5(g::text)::uuid from generate_series(1, 8000) g; analyze ids", 6, 3000},
		{"moments", "create table moments (id timestamptz primary key)",
			"insert into moments select timestamptz '2026-01-01' + g * interval '1 h' from generate_series(1, 8000) g; analyze moments", 6, 3000},
		{"parts", "create table parts (id int primary key) partition by range (id); create table parts_1 partition of parts for values from (0) to (5000); create table parts_2 partition of parts default",
			"insert into parts select generate_series(1, 8000); analyze parts", 6, 3000},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *e
			e := &sub
			e.t = t
			e.exec(c.create)
			e.exec(c.fill)
			e.exec(fmt.Sprintf("select freshet.create_sink('%[1]s', '%[1]s')", c.name))
			id := e.lastBackfill(c.name)
			e.settle()
			var ranges, most, all, rows int
			err := e.super.QueryRow(t.Context(), fmt.Sprintf(`
				select count(*), max(rows_done), sum(rows_done), (select count(*) from %s) from freshet.backfill_range where run_id = $1`, c.name), id).Scan(&ranges, &most, &all, &rows)
			if err != nil {
				t.Fatal(err)
			}
			if ranges < c.ranges || most > c.most {
				t.Errorf("%d ranges, the largest with %d rows", ranges, most)
			}
			if all != rows {
				t.Errorf("%d rows were read of %d", all, rows)
			}
			if n := len(e.redis.Keys(t.Context(), c.name+":*").Val()); n != rows {
				t.Errorf("%d entries of %d rows", n, rows)
			}
		})
	}
}

func TestWorkersShareABackfill(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 4000) g; analyze users")
	e.start()
	e.settle()
	id := one[int64](e, "select freshet.backfill('users', rate => 4000)")
	e.await("two workers are at it", func() bool {
		return one[int](e, "select count(distinct l.holder) from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id where r.finished_at is null") == 2
	})
	e.backfilled(id)
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestKilledWorkersDoNothingTwice(t *testing.T) {
	const rows = 60_000
	e := newEnv(t)
	e.inRangesOf(15_000)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, repeat('x', 200) from generate_series(1, $1::int) g", rows)
	e.exec("analyze users")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	written := e.written("users:")
	id := one[int64](e, "select freshet.backfill('users', rate => 25000)")
	const progress = "select coalesce(sum(rows_done), 0)::bigint from freshet.backfill_range where run_id = $1"
	random := rand.New(rand.NewPCG(7, 7))
	var done int64
	for kill := range 6 {
		workers := []*process{e.process("worker"), e.process("worker")}
		more := int64(1 + random.IntN(3000))
		e.await(fmt.Sprintf("there is progress before kill %d", kill+1), func() bool { return one[int64](e, progress, id) >= min(done+more, rows) })
		for _, p := range workers {
			p.signal(syscall.SIGKILL)
		}
		for _, p := range workers {
			<-p.ended
		}
		// Postgres may be in the middle of their last statements.
		e.await("they are gone", func() bool {
			return one[int](e.admin(), "select count(*) from pg_stat_activity where application_name = any ($1)", []string{workers[0].name, workers[1].name}) == 0
		})
		now := one[int64](e, progress, id)
		if now < done {
			t.Fatalf("%d rows were done, and after a kill %d", done, now)
		}
		done = now
		e.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where holder is not null")
	}
	e.process("worker")
	e.backfilled(id)
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int64](e, "select rows_done from freshet.backfills where id = $1", id); n != rows {
		t.Errorf("%d rows were counted of %d", n, rows)
	}
	if n := written(); n != rows {
		t.Errorf("%d rows were written; want %d, each of them once", n, rows)
	}
}

// written counts, from now on, how often a key with this prefix is written by MSET.
func (e *env) written(prefix string) (count func() int64) {
	e.t.Helper()
	u, err := url.Parse(e.redisURL)
	if err != nil {
		e.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "MONITOR\r\n"); err != nil {
		e.t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err != nil || line != "+OK\r\n" {
		e.t.Fatalf("MONITOR: %q, %v", line, err)
	}
	database := fmt.Sprintf("[%s ", strings.TrimPrefix(u.Path, "/"))
	var n atomic.Int64
	marks := make(chan struct{}, 1)
	go func() {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, `"freshet:test:mark"`) {
				marks <- struct{}{}
			}
			_, command, _ := strings.Cut(line, "] ")
			if strings.Contains(line, database) && strings.HasPrefix(command, `"mset"`) {
				n.Add(int64(strings.Count(command, ` "`+prefix)))
			}
		}
	}()
	return func() int64 {
		e.t.Helper()
		// What was written before this was told before it.
		if err := e.redis.Exists(e.t.Context(), "freshet:test:mark").Err(); err != nil {
			e.t.Fatal(err)
		}
		select {
		case <-marks:
		case <-time.After(patience):
			e.t.Fatal("MONITOR does not tell")
		}
		return n.Load()
	}
}

func TestChunkThatLandedInPartGoesOnFromThere(t *testing.T) {
	const rows = 20_000
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, $1::int) g", rows)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	stop := e.start()
	e.settle()
	e.exec("select freshet.backfill('users', rate => 8000)")
	e.await("the backfill is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") > 2000 })
	stop()
	// As a worker leaves it that dies between the transactions of a chunk: an intent is open,
	// a part of it is in Redis, and a change since then was seen by its lane alone.
	position := one[[]string](e, "select position from freshet.backfill_range")[0]
	lease := one[int64](e, "select lease_id from freshet.backfill_range")
	one[bool](e, "select freshet.next_chunk($1, (select epoch from freshet.lease where id = $1), (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), 'none', null, 0, null, pg_current_snapshot())", lease)
	var next int
	fmt.Sscan(position, &next)
	next++
	key := fmt.Sprintf("users:%d", next)
	e.exec("update users set name = 'new' where id = $1", next)
	e.redis.Set(t.Context(), key, fmt.Sprintf(`{"id":%d,"name":"stale"}`, next), 0)
	control := one[string](e, "select 'freshet:' || i.id || ':' || l.sink_id || ':' || l.part from freshet.installation i, freshet.lease l where l.id = $1", lease)
	landed := next + 1
	if n := e.redis.HSet(t.Context(), control, "cursor", fmt.Sprintf(`["%d"]+%d:2`, landed, one[int64](e, "select steps from freshet.backfill_range"))).Val(); n != 0 {
		t.Fatal("the control key was not there")
	}
	e.redis.Del(t.Context(), "users:1", fmt.Sprintf("users:%d", landed))

	e.start()
	e.lastBackfill("users")
	e.settle()
	if e.entry("users:1") != "" {
		t.Error("the range began again from its beginning")
	}
	if e.entry(fmt.Sprintf("users:%d", landed)) != "" {
		t.Error("what had landed of the chunk was written again")
	}
	e.inStep("users:*", fmt.Sprintf("%s where id not in (1, %d)", usersPromise, landed))
	if n := one[int64](e, "select rows_done from freshet.backfills"); n != rows {
		t.Errorf("%d rows were counted of %d", n, rows)
	}
	if n := one[int](e, "select count(*) from freshet.changes_1 where op = 'r' and k1 = $1", next); n == 0 {
		t.Error("what was written in part was not validated")
	}
}

func TestSecondBackfillJoinsTheFirst(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g; analyze users")
	e.settle()
	id := one[int64](e, "select freshet.backfill('users', rate => 2000)")
	e.await("a range is finished", func() bool {
		return one[bool](e, "select exists (select from freshet.backfill_range where finished_at is not null and rows_done > 0)")
	})
	// All that was written is gone, unnoticed: whoever asks now wants it back.
	keys := e.redis.Keys(t.Context(), "users:*").Val()
	e.redis.Del(t.Context(), keys...)
	for range 3 {
		if again := one[int64](e, "select freshet.backfill('users')"); again != id {
			t.Errorf("backfill %d does not join %d", again, id)
		}
	}
	e.backfilled(id)
	e.settle()
	e.inStep("users:*", usersPromise)
	done := one[int64](e, "select rows_done from freshet.backfills")
	if done < 3000 || done > 3000+int64(len(keys))+1500 {
		t.Errorf("%d rows were read, after %d were written before the second call", done, len(keys))
	}
}

func TestPausedBackfillGoesOnWhenItIsResumed(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(1000)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g; analyze users")
	e.settle()
	id := one[int64](e, "select freshet.backfill('users', rate => 1000)")
	e.await("it is in the middle of a range", func() bool {
		return one[bool](e, "select exists (select from freshet.backfill_range where finished_at is null and position is not null)")
	})
	e.exec("select freshet.pause_backfill($1)", id)
	e.await("nobody works on it", func() bool {
		return one[bool](e, "select coalesce(bool_and(l.holder is null and r.intent_snapshot is null), true) from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id where r.finished_at is null")
	})
	done := one[int64](e, "select rows_done from freshet.backfills")
	// Whoever begins a range again from its start brings this one back.
	behind := one[string](e, "select coalesce(min(position[1]), 'none') from freshet.backfill_range where finished_at is null")
	e.redis.Del(t.Context(), "users:"+behind)
	// Live changes go on, and nobody waits for what is paused.
	e.exec("insert into users (id, name) values (9999, 'live')")
	e.settle()
	e.appears("users:9999")
	if now := one[int64](e, "select rows_done from freshet.backfills"); now != done || done >= 3000 {
		t.Errorf("%d rows were done, and %d while it is paused", done, now)
	}
	if state := one[string](e, "select state from freshet.backfills"); state != "paused" {
		t.Errorf("its state is %s", state)
	}
	e.exec("select freshet.resume_backfill($1)", id)
	e.backfilled(id)
	e.settle()
	e.inStep("users:*", usersPromise+" where id::text <> $1", behind)
	if n := one[int64](e, "select rows_done from freshet.backfills"); n > 3002 {
		t.Errorf("%d rows were read of 3001", n)
	}
}

func TestCancelledBackfillLeavesNothingOpen(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g; analyze users")
	e.exec("select freshet.create_sink('users', 'users', max_rate => 1500)")
	e.start()
	e.lastBackfill("users")
	id := one[int64](e, "select freshet.backfill('users', rate => 1000)")
	e.await("it is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills where id = $1", id) > 0 })
	e.exec("select freshet.cancel_backfill($1)", id)
	e.await("its ranges are closed", func() bool {
		return one[bool](e, "select bool_and(r.finished_at is not null and r.intent_snapshot is null) from freshet.backfill_range r where r.run_id = $1", id)
	})
	e.settle()
	e.inStep("users:*", usersPromise)
	if state := one[string](e, "select state from freshet.backfills where id = $1", id); state != "cancelled" {
		t.Errorf("its state is %s", state)
	}
	if c := one[string](e, "select coverage from freshet.sinks"); c != "full" {
		t.Errorf("coverage is %s, though everything had been written before", c)
	}
	e.refused("has written its last row", "select freshet.cancel_backfill($1)", id)
	e.refused("there is no backfill 999", "select freshet.pause_backfill(999)")
}

func TestCancelledFirstBackfillLeavesTheSinkLazy(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.pause_backfill(1)")
	e.exec("select freshet.cancel_backfill(1)")
	e.start()
	e.settle()
	e.exec("update users set name = 'touched' where id = 5")
	e.settle()
	e.inStep("users:*", usersPromise+" where id = 5")
	if c := one[string](e, "select coverage from freshet.sinks"); c != "lazy" {
		t.Errorf("coverage is %s", c)
	}
}

func TestFilterChoosesWhatIsBackfilled(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(1000)
	e.lazyUsers()
	e.exec("insert into users (id, name, active, created_at) select g, 'user ' || g, g % 3 = 0, now() - g * interval '1 hour' from generate_series(1, 6000) g; analyze users")
	e.settle()
	for _, c := range []struct {
		filter string
		// most is how many rows may be read for it.
		most int
	}{
		{"active", 6000},
		{"created_at > now() - interval '1 day'", 6000},
		{"id between 101 and 350", 250},
		{"id > 5900", 100},
		{"id = 7 -- a comment", 1},
		{"false", 6000},
	} {
		e.redis.Del(t.Context(), append(e.redis.Keys(t.Context(), "users:*").Val(), "none")...)
		id := one[int64](e, "select freshet.backfill('users', filter => $1)", c.filter)
		e.backfilled(id)
		e.settle()
		e.inStep("users:*", usersPromise+" where "+strings.TrimSuffix(c.filter, "-- a comment"))
		if n := one[int](e, "select rows_done from freshet.backfills where id = $1", id); n > c.most {
			t.Errorf("%s: %d rows were read", c.filter, n)
		}
	}
	if c := one[string](e, "select coverage from freshet.sinks"); c != "lazy" {
		t.Errorf("coverage is %s", c)
	}
	e.refused("filter: column \"nmae\" does not exist", "select freshet.backfill('users', filter => 'nmae = ''x''')")
	e.refused("filter: it must be a condition", "select freshet.backfill('users', filter => 'id')")
	e.refused("filter: it is empty", "select freshet.backfill('users', filter => ' ')")
	e.refused("rate: 0 rows a second is no rate", "select freshet.backfill('users', rate => 0)")
	if n := one[int](e, "select count(*) from freshet.backfills where state <> 'completed'"); n != 0 {
		t.Errorf("%d backfills were left by calls that failed", n)
	}
}

func TestRangesTogetherKeepToTheRate(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(300)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g; analyze users")
	e.start()
	e.settle()
	begin := time.Now()
	id := one[int64](e, "select freshet.backfill('users', rate => 1500)")
	e.backfilled(id)
	if took := time.Since(begin); took < 1500*time.Millisecond {
		t.Errorf("3000 rows at 1500 a second took %v", took)
	}
	if n := one[int](e, "select count(*) from freshet.backfill_range where run_id = $1", id); n < 5 {
		t.Errorf("there were only %d ranges", n)
	}
}

func TestFullBackfillEndsWithASweep(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 2000) g")
	e.settle()
	e.redis.Set(t.Context(), "users:777777", `{"id": 777777}`, 0)
	e.redis.Set(t.Context(), "users:x", "not ours", 0)
	e.backfilled(one[int64](e, "select freshet.backfill('users', filter => 'id < 100')"))
	e.settle()
	if e.entry("users:777777") == "" {
		t.Error("a backfill of some rows has swept")
	}
	e.backfilled(one[int64](e, "select freshet.backfill('users')"))
	e.settle()
	if e.entry("users:777777") != "" || e.entry("users:x") == "" {
		t.Errorf("after the sweep there are %q and %q", e.entry("users:777777"), e.entry("users:x"))
	}
}

func TestBackfillOfARefusingSinkDoesNotKeepOthersWaiting(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(100)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 2000) g; analyze users")
	e.exec("select freshet.create_sink('held', 'users', key => 'held:${id}')")
	e.exec("select freshet.pause_sink('held')")
	e.exec("select freshet.create_sink('taken', 'users', key => 'taken:${id}')")
	e.redis.Set(t.Context(), "taken:1", "somebody else's", 0)
	e.start()
	e.await("the sink is blocked", func() bool { return e.stateOf("taken") == "blocked" })
	e.exec("select freshet.create_sink('users', 'users')")
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.exec("select freshet.resume_sink('held')")
	e.exec("select freshet.alter_sink('taken', adopt => true)")
	e.lastBackfill("held")
	e.lastBackfill("taken")
	e.settle()
	e.inStep("held:*", strings.Replace(usersPromise, "users:", "held:", 1))
	e.inStep("taken:*", strings.Replace(usersPromise, "users:", "taken:", 1))
}

func TestBackfillCommandWaitsForTheEnd(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 500) g")
	e.settle()
	e.redis.Del(t.Context(), e.redis.Keys(t.Context(), "users:*").Val()...)
	bin := binary(t)
	run := func(args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"backfill"}, args...)...)
		cmd.Env = []string{"FRESHET_DATABASE_URL=" + e.databaseURL}
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run("users", "--filter", "id <= 10", "--wait"); code != 0 || !strings.Contains(out, "done: 10 rows read") {
		t.Errorf("status %d: %s", code, out)
	}
	e.settle()
	e.inStep("users:*", usersPromise+" where id <= 10")
	if out, code := run("users", "--rate=100000", "--wait"); code != 0 || !strings.Contains(out, "done: 500 rows read") {
		t.Errorf("status %d: %s", code, out)
	}
	e.inStep("users:*", usersPromise)
	for _, c := range []struct{ args, says string }{
		{"users --filter nothing", `filter: column "nothing" does not exist`},
		{"nobody", "nobody"},
		{"users --rate=-1", "--rate is -1"},
		{"", "want 1 arguments"},
	} {
		if out, code := run(strings.Fields(c.args)...); code == 0 || !strings.Contains(out, c.says) {
			t.Errorf("freshet backfill %s: status %d: %s", c.args, code, out)
		}
	}
}

// How many rows there are is an estimate, which a backfill may pass.
func TestBackfillThatHasPassedItsEstimateIsNotDone(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.admin().exec(`insert into freshet.backfill_run (sink_id, reason, state, rows_estimated, rows_done, counted_from)
		select s.id, 'user', r.state, 100, r.done, clock_timestamp() - interval '10 seconds'
		from freshet.sink s, (values ('running', 50), ('running', 150), ('paused', 150), ('completed', 150)) r (state, done)`)
	const want = "running 50.0 true, running 99.9 false, paused 99.9 false, completed 100.0 false"
	if got := one[string](e, "select string_agg(state || ' ' || percent || ' ' || (eta is not null), ', ' order by id) from freshet.backfills"); got != want {
		t.Errorf("state, percent and whether there is an eta: %s; want %s", got, want)
	}
}

func TestBackfillCommandGoesByTheNameInItsURL(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	// Nobody works, so it waits.
	owner := *e
	owner.workerURL = e.databaseURL
	p := owner.process("backfill", "users", "--wait")
	e.await("it is connected under that name", func() bool {
		return one[bool](e.admin(), "select exists (select from pg_stat_activity where application_name = $1)", p.name)
	})
	e.await("the notice is shown", func() bool { return strings.Contains(p.stderr.String(), "is not at its end yet") })
	e.await("it says what it waits for", func() bool { return strings.Contains(p.stdout.String(), "no worker has begun yet") })
	p.signal(syscall.SIGINT)
	if status := p.wait(patience); status != 130 {
		t.Errorf("interrupted it exits with %d", status)
	}
}
