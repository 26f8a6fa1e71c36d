package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/source"
)

// measures is a table whose sink cannot be made for rows with x = 7.
const measures = `create table measures (id bigint primary key, x int not null default 1, note text)`

const (
	measuresSink    = "select freshet.create_sink('measures', 'measures', filter => '1 / (x - 7) is not null')"
	measuresPromise = `select 'measures:' || id, to_jsonb(m)::text from measures m where x <> 7`
)

// measure makes the table with n rows and a sink on it that is warm.
func (e *env) measure(n int) {
	e.t.Helper()
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, $1::int) g", n)
	e.exec(measuresSink)
}

// judge is what the function calls that the sink's filter calls: it raises an error for some rows.
// Of what it is now nobody is told.
func (e *env) judge(body string) {
	e.t.Helper()
	const function = "create or replace function %s(id bigint, x int, note text) returns boolean language plpgsql immutable as $$ begin %s end $$"
	e.exec(fmt.Sprintf(function, "verdict", body+" return true;"))
	e.exec(fmt.Sprintf(function, "judge", "return verdict(id, x, note);"))
}

const (
	judgedSink    = "select freshet.create_sink('measures', 'measures', filter => 'judge(id, x, note)')"
	judgedPromise = `select 'measures:' || id, to_jsonb(m)::text from measures m`
)

// failing lists the keys in the view failures.
func (e *env) failing() []string {
	e.t.Helper()
	return e.list("select key from freshet.failures order by key")
}

// awaitFailing waits until exactly these keys are in the view.
func (e *env) awaitFailing(keys ...string) {
	e.t.Helper()
	e.await(fmt.Sprintf("%v fail, and nothing else", keys), func() bool { return slices.Equal(e.failing(), keys) })
}

// neverRetry puts the next try of all that fails off, so that somebody else has to do it.
func (e *env) neverRetry() {
	e.t.Helper()
	e.admin().exec(`
		create or replace function never() returns trigger language plpgsql as $$ begin new.next_try := 'infinity'; return new; end $$;
		create trigger never before insert or update on freshet.failure for each row execute function never();
		update freshet.failure set next_try = 'infinity'`)
	// What was touched by then has been tried.
	e.settle()
}

// retry ends neverRetry.
func (e *env) retry() {
	e.t.Helper()
	e.admin().exec("drop trigger never on freshet.failure; update freshet.failure set next_try = now()")
}

func TestFailingEntryIsRemovedShownAndTriedAgain(t *testing.T) {
	e := newEnv(t)
	e.measure(3000)
	e.start()
	e.settle()
	e.inStep("measures:*", measuresPromise)

	e.exec("update measures set note = 'changed', x = case id when 500 then 7 else 2 end")
	e.settle()
	e.inStep("measures:*", measuresPromise)
	e.awaitFailing("measures:500")
	if said := one[string](e, "select concat_ws(' ', sink, target, error, sqlstate) from freshet.failures"); said != "measures default division by zero 22012" {
		t.Errorf("the view says %q", said)
	}
	// The sink goes on.
	e.exec("update measures set note = 'changed again' where id <> 500")
	e.settle()
	e.inStep("measures:*", measuresPromise)
	if state := e.stateOf("measures"); state != "live" {
		t.Errorf("state %q", state)
	}
	e.await("it is tried again, with growing pauses", func() bool {
		return one[bool](e, `select attempts >= 3 and next_try_at - last_tried_at > interval '2.9 seconds'
			and last_tried_at - first_failed_at > interval '2 seconds' from freshet.failures`)
	})

	e.exec("update measures set x = 1 where id = 500")
	e.awaitFailing()
	e.inStep("measures:*", measuresPromise)

	// Whatever comes of the row, absent is right when it is gone.
	e.exec("update measures set x = 7 where id in (1, 3000)")
	e.awaitFailing("measures:1", "measures:3000")
	e.exec("delete from measures where id = 1")
	e.exec("update measures set id = 5000, x = 3 where id = 3000")
	e.awaitFailing()
	e.inStep("measures:*", measuresPromise)
}

// Nothing is captured when a function or another table changes: only trying again finds it.
func TestFailingEntryIsWrittenWhenItFailsNoMore(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 100) g")
	e.judge("if id in (3, 4) then raise exception 'no % today', id; end if;")
	e.exec(judgedSink)
	e.start()
	e.awaitFailing("measures:3", "measures:4")
	if said := one[string](e, "select min(error || ' ' || sqlstate) from freshet.failures"); said != "no 3 today P0001" {
		t.Errorf("the view says %q", said)
	}
	e.settle()
	e.inStep("measures:*", judgedPromise+" where id not in (3, 4)")

	e.neverRetry()
	e.judge("")
	e.exec("select freshet.refresh('measures', 3)")
	e.awaitFailing("measures:4")
	e.settle()
	e.inStep("measures:*", judgedPromise+" where id <> 4")
	e.retry()
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", judgedPromise)
}

// A batch is read ahead while the one before is written, and rows fail and are mended in
// turn: what the view says in the end is what the last change made of each.
func TestFailingAndMendedInTurnEndsRight(t *testing.T) {
	e := newEnv(t)
	e.measure(200)
	e.exec("select freshet.alter_sink('measures', shards => 2)")
	e.start()
	for n := range 400 {
		e.exec("update measures set x = $1 where id % 50 = $2", 7-n%2*rand.N(2), rand.N(4))
		if n%40 == 0 {
			e.exec("select freshet.backfill('measures')")
		}
	}
	e.settle()
	e.inStep("measures:*", measuresPromise)
	e.awaitFailing(sorted(e.list("select 'measures:' || id from measures where x = 7"))...)
	e.exec("update measures set x = 1")
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", measuresPromise)
}

// paused stops all writes of a Redis, while its entries can be read. A lane that has just read the
// sink anew because a backfill is over would be held by its cursor, and not come to any change.
func (e *env) paused() (resume func()) {
	e.t.Helper()
	e.await("the lane has written down that the backfill is over", func() bool {
		return one[bool](e, `select coalesce(bool_and(coalesce(pg_visible_in_snapshot(r.finished_xid, split_part($1, ' ', 1)::pg_snapshot), false)), false)
			from freshet.backfill_range r`, e.controlCursor())
	})
	if err := e.redis.Do(e.t.Context(), "client", "pause", time.Hour.Milliseconds(), "write").Err(); err != nil {
		e.t.Fatal(err)
	}
	return func() {
		e.t.Helper()
		if err := e.redis.Do(e.t.Context(), "client", "unpause").Err(); err != nil {
			e.t.Fatal(err)
		}
	}
}

// A worker dies after it has noted a failing entry and before that is removed.
func TestEntryNotedByAWorkerThatDiedIsRemoved(t *testing.T) {
	t.Parallel()
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, nil).URL())
	e.measure(100)
	p, _ := e.worker()
	e.settle()

	resume := e.paused()
	e.exec("update measures set x = 7 where id = 50")
	e.awaitFailing("measures:50")
	if e.entry("measures:50") == "" {
		t.Fatal("the entry was removed before it was sure to be tried again")
	}
	p.kill()
	resume()
	if e.entry("measures:50") == "" {
		t.Fatal("the write that was held landed after its writer's death: this test shows nothing")
	}
	p, _ = e.worker()
	e.await("the entry is removed", func() bool { return e.entry("measures:50") == "" })
	e.settle()
	e.inStep("measures:*", measuresPromise)
	e.awaitFailing("measures:50")

	// The same where the row is mended while nobody works. A lane that is just trying the other
	// one again would be held by that, and never come to this one.
	e.neverRetry()
	resume = e.paused()
	e.exec("update measures set x = 7 where id = 51")
	e.awaitFailing("measures:50", "measures:51")
	p.kill()
	resume()
	e.exec("update measures set x = 3 where id in (50, 51)")
	e.worker()
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", measuresPromise)
}

// An entry is not struck out of the book before it is written, and one that was written and
// not struck out by a worker that died is tried once more.
func TestFailureIsForgottenOnlyOnceTheEntryIsWritten(t *testing.T) {
	t.Parallel()
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, nil).URL())
	e.measure(100)
	p, _ := e.worker()
	e.exec("update measures set x = 7 where id = 50")
	e.awaitFailing("measures:50")
	e.neverRetry()

	resume := e.paused()
	e.exec("update measures set x = 3 where id = 50")
	e.await("the write is held", func() bool {
		return strings.Contains(e.redis.ClientList(t.Context()).Val(), "flags=xb")
	})
	if got := e.failing(); len(got) != 1 || e.entry("measures:50") != "" {
		t.Fatalf("%v fail, the entry is %q", got, e.entry("measures:50"))
	}
	// The book is held, so the worker dies between its write and the end.
	tx, err := e.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), "select from freshet.failure for update"); err != nil {
		t.Fatal(err)
	}
	resume()
	e.await("the entry is written", func() bool { return e.entry("measures:50") != "" })
	e.await("the worker waits for the book", func() bool { return e.waiting(p) > 0 })
	p.kill()
	// A statement that waits would go on without its client.
	e.await("its connections are gone", func() bool {
		return one[int](e.admin(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1 and datname = current_database()", p.name) == 0
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.failing(); len(got) != 1 {
		t.Fatalf("%v fail: this test shows nothing", got)
	}
	e.retry()
	e.worker()
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", measuresPromise)
}

// unseen writes to the table without its being captured.
func (e *env) unseen(sql string) {
	e.t.Helper()
	triggers := e.list("select quote_ident(tgname) from pg_trigger where tgrelid = 'measures'::regclass and not tgisinternal")
	for _, trigger := range triggers {
		e.exec("alter table measures disable trigger " + trigger)
	}
	e.exec(sql)
	for _, trigger := range triggers {
		e.exec("alter table measures enable always trigger " + trigger)
	}
}

// Whoever read a row later knows better: a lane and a backfill, or two batches of which one
// is read while the other is written.
func TestOlderSuccessDoesNotForgetANewerFailure(t *testing.T) {
	e := newEnv(t)
	e.measure(10)
	e.exec("update measures set x = 7 where id = 5")
	ctx := t.Context()
	sink, err := catalog.LoadSinkNamed(ctx, e.db, "measures")
	if err != nil {
		t.Fatal(err)
	}
	reader, err := source.NewReader(e.db, sink, nil)
	if err != nil {
		t.Fatal(err)
	}
	held := &lease.Held{Lease: catalog.Lease{ID: one[int64](e, "select id from freshet.lease where kind = 'sync'"), Epoch: 1, SinkID: sink.ID, Target: "default"}}
	book, err := failing.Open(ctx, e.db, new(failing.Gauges), held, e.logger())
	if err != nil {
		t.Fatal(err)
	}
	look := func() (time.Time, *source.Entries) {
		var entries source.Entries
		meta, err := reader.Lookup(ctx, [][]string{{"4"}, {"5"}}, &entries)
		if err != nil {
			t.Fatal(err)
		}
		return meta.At, &entries
	}
	at, bad := look()
	if err := book.Note(ctx, bad.Len(), at, bad); err != nil {
		t.Fatal(err)
	}
	e.exec("update measures set x = 1")
	later, good := look()
	for _, c := range []struct {
		at   time.Time
		want []string
	}{{at.Add(-time.Microsecond), []string{"measures:5"}}, {later, nil}} {
		if err := book.Strike(ctx, c.at, good, false); err != nil {
			t.Fatal(err)
		}
		if got := e.failing(); !slices.Equal(got, c.want) {
			t.Errorf("after an entry that was read at %v was written, %v fail; want %v", c.at, got, c.want)
		}
	}
	// A lease that has passed on has no say.
	held.Epoch++
	if err := book.Note(ctx, bad.Len(), at, bad); !errors.Is(err, lease.ErrLost) {
		t.Errorf("noted under another epoch: %v", err)
	}
}

func TestFailingRowsDoNotStopABackfill(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id, x) select g, case when g in (1, 249, 250, 251, 3000, 7000) then 7 else 1 end from generate_series(1, 7000) g")
	e.exec(measuresSink)
	e.start()
	e.settle()
	e.inStep("measures:*", measuresPromise)
	e.awaitFailing("measures:1", "measures:249", "measures:250", "measures:251", "measures:3000", "measures:7000")
	if n := one[int64](e, "select rows_done from freshet.backfills"); n != 7000 {
		t.Errorf("%d rows were read of 7000", n)
	}

	// It removes what it finds failing as a lane does, and strikes out what it writes.
	e.neverRetry()
	e.redis.Set(t.Context(), "measures:3000", "stale", 0)
	// Nobody but the backfill sees these.
	e.unseen("update measures set x = 1 where id < 251; update measures set x = 7 where id = 4000")
	e.exec("select freshet.backfill('measures')")
	e.settle()
	e.inStep("measures:*", measuresPromise)
	e.awaitFailing("measures:251", "measures:3000", "measures:4000", "measures:7000")
	e.exec("update measures set x = 1")
	e.retry()
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", measuresPromise)
}

func TestBackfillNotesFailingEntriesBeforeItRemovesThem(t *testing.T) {
	e := newEnv(t)
	e.measure(1000)
	p, _ := e.worker()
	e.settle()
	tx, err := e.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), "lock table freshet.failure in exclusive mode"); err != nil {
		t.Fatal(err)
	}
	e.unseen("update measures set x = 7 where id = 600")
	e.exec("select freshet.backfill('measures')")
	e.await("the worker waits for the book", func() bool { return e.waiting(p) > 0 })
	if e.entry("measures:600") == "" {
		t.Fatal("the entry was removed before it was sure to be tried again")
	}
	p.kill()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.worker()
	e.awaitFailing("measures:600")
	e.settle()
	e.inStep("measures:*", measuresPromise)
}

// What concerns the whole statement is no entry's failure: nothing is removed for it, and
// nothing is lost.
func TestOtherErrorsAreTheBatchsAndNoEntrys(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 100) g")
	e.judge("")
	e.exec(judgedSink)
	e.start()
	e.settle()

	type fault struct{ name, cause, mend string }
	var faults []fault
	for _, code := range []string{"25006", "40001", "40P01", "42501", "42703", "42P01", "53200", "55P03", "57014", "58030", "XX000"} {
		faults = append(faults, fault{code, "if id = 5 then raise exception 'planted " + code + "' using errcode = '" + code + "'; end if;", ""})
	}
	for n, f := range faults {
		e.judge(f.cause)
		e.exec("update measures set note = $1", f.name)
		e.await(f.name+" shows in status", func() bool {
			return strings.Contains(one[string](e, "select coalesce(max(last_error), '') from freshet.status"), "planted "+f.name)
		})
		if got := e.failing(); len(got) > 0 {
			t.Errorf("%s: %v fail", f.name, got)
		}
		if got := len(e.redis.Keys(t.Context(), "measures:*").Val()); got != 100 {
			t.Errorf("%s: %d entries are left", f.name, got)
		}
		if n > 0 && strings.Contains(e.entry("measures:1"), f.name) {
			t.Errorf("%s: a part of the batch was written", f.name)
		}
		e.judge(f.mend)
		e.settle()
		e.inStep("measures:*", judgedPromise)
	}

	for _, f := range []fault{
		{"permission denied", "revoke select on measures from freshet_worker", "grant select on measures to freshet_worker"},
		{"does not exist", "alter table measures rename x to y", "alter table measures rename y to x"},
		{"does not exist", "alter function judge(bigint, int, text) rename to judged", "alter function judged(bigint, int, text) rename to judge"},
	} {
		if e.seesAll() && strings.HasPrefix(f.name, "permission") {
			continue
		}
		e.exec(f.cause)
		e.exec("update measures set note = $1", f.cause)
		e.await(f.cause+" shows in status", func() bool {
			return one[bool](e, "select last_error like '%' || $1 || '%' and last_error_at > now() - interval '5 seconds' from freshet.status", f.name)
		})
		if got := e.failing(); len(got) > 0 {
			t.Errorf("%s: %v fail", f.cause, got)
		}
		e.exec(f.mend)
		e.mended()
		e.inStep("measures:*", judgedPromise)
	}
}

// A constant of the filter is evaluated when the statement is planned, whatever the rows.
func TestConstantThatRaisesAnErrorIsNoEntrysFailure(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 100) g")
	e.exec("create function least_x() returns int language plpgsql immutable as $$ begin return 0; end $$")
	e.exec("select freshet.create_sink('measures', 'measures', filter => 'x > least_x()')")
	stop := e.start()
	e.settle()
	stop()
	e.exec("create or replace function least_x() returns int language plpgsql immutable as $$ begin return 1 / 0; end $$")
	e.exec("update measures set note = 'changed'")
	e.start()
	e.await("it shows in status", func() bool {
		return one[bool](e, "select coalesce(last_error like '%division by zero%', false) from freshet.status")
	})
	if got := e.failing(); len(got) > 0 {
		t.Errorf("%v fail", got)
	}
	if got := len(e.redis.Keys(t.Context(), "measures:*").Val()); got != 100 {
		t.Errorf("%d entries are left", got)
	}
	e.exec("create or replace function least_x() returns int language plpgsql immutable as $$ begin return 0; end $$")
	e.follow("measures:*", judgedPromise)
}

func TestValueThatIsTooLargeFails(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 10) g")
	e.exec("select freshet.create_sink('measures', 'measures')")
	e.start()
	e.settle()
	e.exec("update measures set note = case id when 5 then repeat('x', 128 << 20) else 'small' end")
	e.awaitFailing("measures:5")
	e.settle()
	e.inStep("measures:*", judgedPromise+" where id <> 5")
	if said := one[string](e, "select sqlstate || ' ' || error from freshet.failures"); !strings.HasPrefix(said, "54000 the value has 134217") {
		t.Errorf("the view says %q", said)
	}
	e.exec("update measures set note = 'small again'")
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", judgedPromise)
}

// A server that is told to take less closes the connection of whoever sends more.
func TestValueThatIsTooLargeForItsServerFails(t *testing.T) {
	t.Parallel()
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, map[string]string{"proto-max-bulk-len": "1mb"}).URL())
	e.exec(measures)
	e.exec("insert into measures (id, note) select g, case g when 3 then repeat('x', 1 << 20) else 'small' end from generate_series(1, 10) g")
	e.exec("select freshet.create_sink('measures', 'measures')")
	e.start()
	e.lastBackfill("measures")
	e.awaitFailing("measures:3")
	e.exec("update measures set note = case id when 5 then repeat('x', 1 << 20) else 'small' end")
	e.awaitFailing("measures:5")
	e.settle()
	e.inStep("measures:*", judgedPromise+" where id <> 5")
	e.exec("update measures set note = 'small again'")
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", judgedPromise)
}

// stopped waits until the sink fails as a whole, and makes sure that it does not empty
// the cache.
func (e *env) stopped(least int) {
	e.t.Helper()
	e.await("the sink is failing", func() bool { return e.stateOf("measures") == "failing" })
	if n := len(e.redis.Keys(e.t.Context(), "measures:*").Val()); n < least {
		e.t.Errorf("%d entries are left; want %d at least", n, least)
	}
	if said := one[string](e, "select last_error from freshet.status"); !strings.Contains(said, "entries failed within a minute, one of them with: broken (P0001)") {
		e.t.Errorf("status says %q", said)
	}
}

func TestTooManyFailuresStopTheSinkUntilTheDefinitionIsMended(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 20000) g")
	e.judge("")
	e.exec(judgedSink)
	e.start()
	e.settle()

	e.judge("raise exception 'broken';")
	e.exec("update measures set note = 'changed'")
	// One in twenty of the 20,000 that were warmed and of those that were looked at since.
	e.stopped(18_900)
	cursor := e.controlCursor()
	entries := len(e.redis.Keys(t.Context(), "measures:*").Val())
	// Nothing happens meanwhile, and nothing is lost.
	e.exec("update measures set note = 'changed again' where id % 2 = 0")
	e.exec("delete from measures where id % 5 = 0")
	e.exec("select freshet.backfill('measures')")
	beat := one[time.Time](e, "select heartbeat_at from freshet.lease where kind = 'sync'")
	e.await("three heartbeats", func() bool {
		return one[bool](e, "select heartbeat_at > $1::timestamptz + interval '3 seconds' from freshet.lease where kind = 'sync'", beat)
	})
	e.stopped(entries)
	if now := e.controlCursor(); now != cursor {
		t.Errorf("the cursor moved from %s to %s", cursor, now)
	}

	// Told to go on, it tries, and stops again before it has emptied the cache.
	revision := one[int](e, "select revision from freshet.sink")
	e.exec("select freshet.resume_sink('measures')")
	e.await("it has tried", func() bool { return one[int](e, "select revision from freshet.sink") >= revision+2 })
	e.stopped(17_000)

	e.judge("")
	e.await("it goes on", func() bool { return e.stateOf("measures") != "failing" })
	e.settle()
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", judgedPromise)
}

func TestTooManyFailuresStopABackfill(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id) select g from generate_series(1, 20000) g")
	e.judge("")
	e.exec("select freshet.create_sink('measures', 'measures', filter => 'judge(id, x, note)', shards => 2)")
	e.start()
	e.settle()
	e.judge("if id % 10 > 0 then raise exception 'broken'; end if;")
	e.exec("select freshet.backfill('measures')")
	e.await("the sink is failing", func() bool { return e.stateOf("measures") == "failing" })
	if n := len(e.redis.Keys(t.Context(), "measures:*").Val()); n < 18_900 {
		t.Errorf("%d entries are left", n)
	}
	if n := one[int](e, "select count(*) from freshet.backfills where state = 'running'"); n != 1 {
		t.Errorf("%d backfills are running", n)
	}
	e.judge("")
	e.settle()
	e.await("the backfill is completed", func() bool {
		return one[int](e, "select count(*) from freshet.backfills where state <> 'completed'") == 0
	})
	e.awaitFailing()
	e.settle()
	e.inStep("measures:*", judgedPromise)
}

func TestFailingSinkCanBePausedChangedAndDropped(t *testing.T) {
	e := newEnv(t)
	e.measure(100)
	e.start()
	e.settle()
	state := func() string { return one[string](e, "select state from freshet.sinks") }
	e.exec("select freshet.stop_failing(id, 'told to') from freshet.sink")
	if got := one[string](e, "select state || ' ' || last_error from freshet.status"); got != "failing told to" {
		t.Errorf("status says %q", got)
	}
	e.exec("select freshet.pause_sink('measures')")
	if got := state(); got != "paused" {
		t.Errorf("paused, it is %q", got)
	}
	e.exec("select freshet.resume_sink('measures')")
	e.exec("select freshet.stop_failing(id, 'told to') from freshet.sink")
	e.exec("select freshet.alter_sink('measures', shards => 3)")
	if got := state(); got != "active" {
		t.Errorf("altered, it is %q", got)
	}
	e.exec("update measures set x = 7 where id <= 5")
	e.awaitFailing("measures:1", "measures:2", "measures:3", "measures:4", "measures:5")
	// Failures are of no shard.
	e.exec("select freshet.alter_sink('measures', shards => 2)")
	e.exec("update measures set x = 1 where id <= 3")
	e.awaitFailing("measures:4", "measures:5")
	e.exec("select freshet.stop_failing(id, 'told to') from freshet.sink")
	e.exec("select freshet.drop_sink('measures')")
	if got := e.failing(); len(got) > 0 {
		t.Errorf("of a dropped sink %v fail", got)
	}
	e.settle()
	if n := one[int](e, "select count(*) from freshet.failure"); n > 0 {
		t.Errorf("%d failures are left", n)
	}
	e.inStep("measures:*", measuresPromise+" and false")
}

func TestVerifySweepAndGetAreNotStoppedByFailingRows(t *testing.T) {
	e := newEnv(t)
	e.measure(3000)
	e.start()
	e.settle()
	e.exec("update measures set x = 7 where id in (10, 2900)")
	e.awaitFailing("measures:10", "measures:2900")
	e.settle()
	e.neverRetry()
	e.verifies("in step: 2998 entries, 0 stale, 0 missing, 0 orphaned, 2 failing", 0, "measures")
	stdout, _, status := e.freshet("get", "measures", "measures:10")
	if status != 0 || !strings.Contains(stdout, "row:    fails, so it has no entry: division by zero (22012)") {
		t.Errorf("get: status %d, %q", status, stdout)
	}

	// An entry that somebody else wrote is found, and what is orphaned otherwise is swept.
	e.redis.Set(t.Context(), "measures:10", "foreign", 0)
	e.redis.Set(t.Context(), "measures:9999", "foreign", 0)
	e.verifies("out of step: 2998 entries, 0 stale, 0 missing, 2 orphaned, 2 failing", 1, "measures")
	e.exec("select freshet.sweep('measures')")
	e.settle()
	attempts := func() int { return one[int](e, "select sum(attempts) from freshet.failures") }
	before := attempts()
	e.verifies("out of step: 2998 entries, 0 stale, 0 missing, 1 orphaned, 2 failing", 1, "measures", "--repair")
	e.settle()
	e.verifies("in step: 2998 entries, 0 stale, 0 missing, 0 orphaned, 2 failing", 0, "measures")
	if after := attempts(); after != before+1 {
		t.Errorf("the entries were tried %d times, and %d times after one of them was mended", before, after)
	}
}

// One failing entry whose key is of no row's type any more keeps no other of its sink from being tried again.
func TestEntryThatCannotBeTriedKeepsNoOtherFromIt(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	stop := e.start()
	e.settle()
	stop()
	e.admin().exec(`insert into freshet.failure (sink_id, target, key, tuple, code, message, read_at, next_try)
		select 1, 'default', 'users:' || k, array[k], '22012', 'division by zero', now(), now() - interval '1 second' from unnest(array['abc', '7']) as k`)
	if n := one[int](e.admin(), "select freshet.retry_failures('{default}')"); n != 1 {
		t.Errorf("%d entries were touched; want 1", n)
	}
}
