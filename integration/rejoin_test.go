package integration

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/worker"
)

// A range that has seen its end before another backfill joins is done over again to its end.
func TestJoinedRangeIsDoneOverToItsEnd(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.start()
	e.settle()
	ctx := t.Context()
	e.exec("select freshet.backfill('users', rate => 80)")
	e.await("it is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") >= 20 })
	// Who has the sink locked like this keeps the range from ending, and no chunk from being recorded.
	tx, err := e.super.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "select from freshet.sink for no key update"); err != nil {
		t.Fatal(err)
	}
	e.await("the range is at its end", func() bool {
		return one[bool](e, "select bool_or(position = '{100}' and finished_at is null and intent_snapshot is null) from freshet.backfill_range")
	})
	// Written by its lane, then lost unnoticed: whoever asks now wants it back.
	e.exec("insert into users (id, name) values (1000, 'tail')")
	e.appears("users:1000")
	e.redis.Del(ctx, "users:1000", "users:5")
	if _, err := tx.Exec(ctx, "select freshet.request_rewarm((select id from freshet.sink))"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", usersPromise)
}

// A chunk whose intent is older than a re-warm can land after the re-warm has written the
// same rows, and no change that was captured tells of it.
func TestChunkOlderThanARewarmIsLookedAtAgain(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('users', 'users')")
	lease := one[int64](e, "select lease_id from freshet.backfill_range")
	next := func(landed string, done, snapshot *string) {
		t.Helper()
		var ours bool
		err := e.super.QueryRow(t.Context(), "select freshet.next_chunk($1, (select epoch from freshet.lease where id = $1), (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), $2, $3::text::text[], 20, null, $4::text::pg_snapshot)",
			lease, landed, done, snapshot).Scan(&ours)
		if err != nil || !ours {
			t.Fatalf("next chunk: %v, %v", ours, err)
		}
	}
	now, twenty := one[string](e, "select pg_current_snapshot()::text"), "{20}"
	next("none", nil, &now)
	e.admin().exec("select freshet.request_rewarm(1)")
	touched := func() int { return one[int](e, "select count(distinct k1) from freshet.changes_1 where op = 'r'") }
	if n := touched(); n != 0 {
		t.Fatalf("%d rows are touched too early", n)
	}
	// Its worker says that it landed, and that it saw nothing touched.
	next("clean", &twenty, nil)
	if n := touched(); n != 20 {
		t.Errorf("%d rows are looked at again, want 20", n)
	}
	_, err := e.super.Exec(t.Context(), "select freshet.next_chunk($1, (select epoch from freshet.lease where id = $1), (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), 'none', null, 0, null, pg_current_snapshot())", lease)
	if err == nil {
		t.Error("a range that another does over goes on")
	}
	e.start()
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", usersPromise)
}

// A target that went back to before the control key was written can have entries of an earlier
// sink, whose values are others: they stay wrong where the re-warm ends too soon.
func TestRewarmOfATargetThatKeptEntriesIsNotCancelled(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 2000) g; analyze users")
	e.exec("select freshet.create_sink('users', 'users', max_rate => 500)")
	e.start()
	e.lastBackfill("users")
	e.settle()
	prefix := one[string](e.admin(), "select format('freshet:%s:1:', id) from freshet.installation")
	_, err := e.redis.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.FlushDB(t.Context())
		pipe.Set(t.Context(), "users:2000", "of an earlier sink", 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.await("the control key is made again", func() bool { return e.redis.Exists(t.Context(), prefix+"0").Val() == 1 })
	id := one[int64](e, "select max(id) from freshet.backfills where reason = 'rewarm'")
	e.refused("is not cancelled", "select freshet.cancel_backfill($1)", id)
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestCancelledRewarmLeavesTheSinkLazy(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g; analyze users")
	e.exec("select freshet.create_sink('users', 'users', max_rate => 500)")
	e.start()
	e.lastBackfill("users")
	e.settle()
	e.redis.FlushDB(t.Context())
	e.await("a re-warm", func() bool {
		return one[bool](e, "select exists (select from freshet.backfills where reason = 'rewarm' and state = 'running')")
	})
	// A user joins it, and changes his mind: that it was needed is not forgotten.
	id := one[int64](e, "select freshet.backfill('users', rate => 500)")
	e.exec("select freshet.cancel_backfill($1)", id)
	if c := one[string](e, "select coverage from freshet.sinks"); c != "lazy" {
		t.Errorf("coverage is %s", c)
	}
	e.backfilled(one[int64](e, "select freshet.backfill('users')"))
	e.settle()
	e.inStep("users:*", usersPromise)
	if c := one[string](e, "select coverage from freshet.sinks"); c != "full" {
		t.Errorf("coverage is %s", c)
	}
}

// Leave to read is not given so far ahead that a slice ends before it can be used.
func TestManyRangesEndAtALowRate(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(100)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 5000) g; analyze users")
	e.startWith(func(c *worker.Config) { c.Concurrency = 100 })
	e.settle()
	id := one[int64](e, "select freshet.backfill('users', rate => 1000)")
	e.await("many ranges are at work", func() bool {
		return one[int](e, "select count(*) from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id where l.holder is not null and r.finished_at is null") > 25
	})
	e.backfilled(id)
	e.settle()
	e.inStep("users:*", usersPromise)
}

// Rows that are far larger than those before them do not all go into memory at once.
func TestChunkEndsBeforeItsLimitWhereRowsAreLarge(t *testing.T) {
	e := newEnv(t)
	e.exec("create table pages (id int primary key, body text)")
	e.exec("insert into pages select g, 'x' from generate_series(1, 12000) g")
	e.exec("insert into pages select g, repeat('large ', 20000) from generate_series(12001, 12300) g")
	e.exec("select freshet.create_sink('pages', 'pages')")
	reader := e.reader(e.db, "pages")
	var entries source.Entries
	read, err := reader.Chunk(t.Context(), []string{"11000"}, nil, 8000, &entries)
	if err != nil {
		t.Fatal(err)
	}
	if read.End || read.Rows <= 1000 || entries.Len() != read.Rows || entries.Bytes() > 7<<20 || !slices.Equal(read.Upper, []string{fmt.Sprint(11000 + read.Rows)}) {
		t.Errorf("a chunk with large rows has %d rows up to %q, %d entries of %d bytes; end: %v", read.Rows, read.Upper, entries.Len(), entries.Bytes(), read.End)
	}
	e.start()
	e.lastBackfill("pages")
	e.settle()
	e.inStep("pages:*", "select 'pages:' || id, to_jsonb(p)::text from pages p")
	if n := one[int64](e, "select rows_done from freshet.backfills"); n != 12300 {
		t.Errorf("%d rows were read of 12300", n)
	}
}

func TestRangesBeginAnewWhenTheirOrderChanges(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(500)
	e.exec("create table pairs (a int not null, b int not null, constraint pairs_pkey primary key (a, b))")
	e.exec("insert into pairs select g % 50, g from generate_series(1, 3000) g; analyze pairs")
	e.exec("select freshet.create_sink('pairs', 'pairs', backfill => false)")
	e.start()
	e.settle()
	id := one[int64](e, "select freshet.backfill('pairs', rate => 1500)")
	e.await("it is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") > 300 })
	e.exec("alter table pairs drop constraint pairs_pkey, add constraint pairs_pkey primary key (b, a)")
	e.backfilled(id)
	e.settle()
	e.inStep("pairs:*", "select 'pairs:' || a || ':' || b, to_jsonb(p)::text from pairs p")
	if n := one[int](e, "select count(*) from freshet.backfill_range where superseded"); n == 0 {
		t.Error("no range began anew")
	}
}

func TestPausedBackfillDoesNotHoldARewarmUp(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g")
	e.settle()
	id := one[int64](e, "select freshet.backfill('users', rate => 300)")
	e.exec("select freshet.pause_backfill($1)", id)
	e.redis.FlushDB(t.Context())
	e.await("it is warmed again", func() bool {
		return one[bool](e, "select exists (select from freshet.backfills where reason = 'rewarm' and state = 'completed')")
	})
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestBackfillsAreTheOwnersToSteer(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	if e.databaseURL == e.superURL {
		t.Skip("everybody is a superuser")
	}
	other := e.login("other_admin", "freshet_admin")
	for _, call := range []string{"backfill('users')", "pause_backfill(1)", "resume_backfill(1)", "cancel_backfill(1)"} {
		other.refused("42501", "only the owner", "select freshet."+call)
	}
	work := *e
	work.db = newPool(t, e.workerURL)
	for _, call := range []string{"pause_backfill(1)", "resume_backfill(1)", "cancel_backfill(1)"} {
		work.refused("permission denied", "select freshet."+call)
	}
	e.exec("select freshet.pause_backfill(1)")
	e.exec("select freshet.resume_backfill(1)")
	e.exec("select freshet.cancel_backfill(1)")
}

// A worker that loses its connection in a step cannot tell whether that one is still to
// come. When it does come, after what the worker did next, it changes nothing.
func TestStepThatComesLateIsRefused(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('users', 'users')")
	lease := one[int64](e, "select lease_id from freshet.backfill_range")
	const call = "select freshet.next_chunk($1, (select epoch from freshet.lease where id = $1), (select definition from freshet.sink), $2, $3, $4::text::text[], 20, null, pg_current_snapshot())"
	state := func() string {
		return one[string](e, "select coalesce(position::text, '-') || ' ' || rows_done || ' ' || steps from freshet.backfill_range")
	}
	one[bool](e, call, lease, 0, "none", nil)
	one[bool](e, call, lease, 1, "all", "{20}")
	if got, want := state(), "{20} 20 2"; got != want {
		t.Fatalf("the range is at %s, want %s", got, want)
	}
	for _, landed := range []string{"none", "all", "clean"} {
		e.admin().refused("40001", call, lease, 1, landed, "{45}")
	}
	if got, want := state(), "{20} 20 2"; got != want {
		t.Errorf("the range is at %s, want %s", got, want)
	}
}
