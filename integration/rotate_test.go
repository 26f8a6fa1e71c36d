package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/source"
)

// hurry makes rotation go as fast in a test as it does in hours.
func (e *env) hurry() {
	e.t.Helper()
	e.exec("update freshet.installation set retention = '2 s', rotate_after = '1 s', settle_after = '1 s', rotate_bytes = 1 << 20")
}

// changeBytes is the size of the first source's change table, indexes and all.
func (e *env) changeBytes() int64 {
	return one[int64](e, "select sum(pg_total_relation_size(inhrelid))::bigint from pg_inherits where inhparent = 'freshet.changes_1'::regclass")
}

// floor rises each time a segment is truncated.
func (e *env) floor() string {
	return one[string](e, "select floor::text from freshet.source where id = 1")
}

func TestChangeTablesStaySmallUnderLoad(t *testing.T) {
	e := newEnv(t)
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("select freshet.create_sink('sharded', 'counters', key => 'sharded:${id}', shards => 3)")
	e.worker()
	e.worker()
	e.settle()
	var written, largest int64
	floors := make(map[string]bool)
	for began := time.Now(); len(floors) < 4; {
		if time.Since(began) > 2*patience {
			t.Fatalf("the floor rose %d times only", len(floors))
		}
		e.exec("update counters set version = version + 1")
		written += 5000
		largest = max(largest, e.changeBytes())
		floors[e.floor()] = true
		time.Sleep(150 * time.Millisecond) // for others to have the processors as well
	}
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
	e.inStep("sharded:*", countersPromise("sharded"))
	t.Logf("%d changes, the change table was never larger than %d MB", written, largest>>20)
	if n := e.rewarms(); n > 0 {
		t.Errorf("%d re-warms: rotation loses nothing", n)
	}
	e.await("all but what is being written to is emptied", func() bool { return e.changeBytes() < 4<<20 })
}

// A lane is handed over in the middle of a backlog. Whoever goes on does not know when that
// was looked at first, and must not take the lane for one that was behind for ever: it would
// be let go.
func TestLaneThatIsHandedOverInABacklogDoesNotLapse(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 20000) g")
	// What the filter's function calls, and not that itself, for then the sink would be warmed again.
	const slow = "create or replace function slower(n bigint) returns boolean language plpgsql immutable as $$ begin %s return true; end $$"
	e.exec(fmt.Sprintf(slow, ""))
	e.exec("create function slow(n bigint) returns boolean language plpgsql immutable as 'begin return slower(n); end'")
	e.exec("select freshet.create_sink('counters', 'counters', filter => 'slow(version)')")
	stop := e.start()
	e.settle()
	stop()
	// What is left of a backlog is in the third part of a cursor's text, its window in the second.
	window := func() string {
		return one[string](e, "select split_part(cursor, ' ', 2) from freshet.lease where kind = 'sync'")
	}
	asOf := one[time.Time](e, "select as_of from freshet.status")

	e.exec(fmt.Sprintf(slow, "perform count(*) from generate_series(1, 1500);"))
	// The worker is stopped in a backlog, and the next one in the backlog after that.
	half := func() string {
		before := window()
		e.exec("update counters set version = version + 1")
		stop := e.start()
		e.await("a backlog is half done", func() bool { w := window(); return w != "" && w != before })
		stop()
		return window()
	}
	for began := time.Now(); half() == "" || half() == ""; {
		if time.Since(began) > patience {
			t.Fatal("backlogs end before the worker does")
		}
	}
	if now := one[time.Time](e, "select as_of from freshet.status"); now.Before(asOf) {
		t.Errorf("it was as of %s, and is as of %s", asOf, now)
	}

	e.exec(fmt.Sprintf(slow, ""))
	one[any](e.admin(), "select freshet.rotate(1)")
	if state := e.stateOf("counters"); state == "lapsed" {
		t.Error("it has lapsed")
	}
	e.start()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms", n)
	}
}

// A backlog may end where a batch does. The lane that then has nothing to do must not keep
// the change table waiting in the middle of it.
func TestIdleLaneIsNotLeftInTheMiddleOfABacklog(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.start()
	e.settle()
	stop()
	// As many as the first batch of a lane takes.
	e.exec("update counters set version = version + 1 where id <= 250")
	e.start()
	e.settle()
	key := fmt.Sprintf("freshet:%s:%d:0", one[string](e, "select id from freshet.installation"), one[int](e, "select id from freshet.sink"))
	cursor, err := e.redis.HGet(t.Context(), key, "cursor").Result()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(cursor, " ") {
		t.Errorf("nothing is left to do, and the cursor is %s", cursor)
	}
	e.inStep("counters:*", countersPromise("counters"))
}

// A transaction that was open when its segment was left, and goes on to write.
func TestWritersThatOutliveARotationAreNotMissed(t *testing.T) {
	e := newEnv(t)
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.start()
	e.settle()
	segment := func() int { return one[int](e, "select segment from freshet.source") }
	for round := range 2 {
		first := segment()
		long, late := e.begin(), e.begin()
		e.in(long, "update counters set version = version + 1 where id = 1")
		e.in(late, "select txid_current()")
		before := e.floor()
		// Others go on, segments are left, consumed and emptied, but the one with the open change.
		for began := time.Now(); segment() == first || e.floor() == before; {
			if time.Since(began) > 2*patience {
				t.Fatalf("round %d: segment %d, floor %s", round, segment(), e.floor())
			}
			e.exec("update counters set version = version + 1 where id > 50")
			time.Sleep(50 * time.Millisecond) // it does not take many
		}
		e.in(long, "update counters set version = version + 1 where id = 2")
		e.in(late, "update counters set version = version + 1 where id = 3")
		if err := long.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := late.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.settle()
		e.inStep("counters:*", countersPromise("counters"))
	}
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms", n)
	}
}

// One sink that is paused keeps what it has not applied; it goes on without a re-warm.
func TestChangesOfASlowSinkAreKept(t *testing.T) {
	e := newEnv(t)
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("select freshet.create_sink('slow', 'counters', key => 'slow:${id}')")
	e.start()
	e.settle()
	e.exec("select freshet.pause_sink('slow')")
	e.exec("update counters set version = 7; delete from counters where id > 900")
	first := one[int](e, "select segment from freshet.source")
	e.await("several rotations", func() bool {
		e.exec("update counters set version = version + 1 where id < 100")
		return one[int](e, "select count(*) from freshet.segment") > 3 && one[int](e, "select segment from freshet.source") > first+2
	})
	if n := one[int](e, "select count(*) from freshet.changes_1 where op = 'd'"); n == 0 {
		t.Error("changes that a paused sink needs are gone")
	}
	e.exec("select freshet.resume_sink('slow')")
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
	e.inStep("slow:*", countersPromise("slow"))
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms", n)
	}
}

// Beyond its limit a sink is let go, so that the disk cannot fill; when it is back it is
// warmed again, and what was deleted meanwhile goes.
func TestSinkThatLapsesIsWarmedWhenItIsBack(t *testing.T) {
	e := newEnv(t)
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("select freshet.create_sink('away', 'counters', key => 'away:${id}', max_pending => 2000)")
	e.start()
	e.settle()
	e.exec("select freshet.pause_sink('away')")
	e.await("it lapses", func() bool {
		e.exec("update counters set version = version + 1")
		return e.stateOf("away") == "lapsed"
	})
	e.exec("delete from counters where id > 2500")
	if state := e.stateOf("counters"); state != "live" && state != "behind" {
		t.Errorf("the other sink is %s", state)
	}
	e.await("its backlog is let go", func() bool {
		e.exec("update counters set version = version + 1 where id < 10")
		return one[int](e, "select count(*) from freshet.changes_1 where op = 'd'") == 0
	})
	e.exec("select freshet.resume_sink('away')")
	e.await("it has caught up", func() bool { return e.stateOf("away") == "live" })
	e.settle()
	e.inStep("away:*", countersPromise("away"))
	e.inStep("counters:*", countersPromise("counters"))
	if n := one[int](e, "select count(*) from freshet.backfills where reason = 'rewarm' and sink = 'away'"); n == 0 {
		t.Error("it was not warmed again")
	}
}

// What was applied stays in the change table for a while. A claim reads none of it.
func TestClaimsDoNotReadWhatIsConsumed(t *testing.T) {
	const claims = 15
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	// Vacuum reads all of it.
	e.exec("alter table freshet.changes_1_1 set (autovacuum_enabled = off)")
	stop := e.start()
	// One by one, for each to have a row of the change table.
	e.exec("do $$ begin for i in 1..40000 loop update counters set version = version + 1 where id = 1 + i % 5000; end loop; end $$")
	e.settle()
	stop()
	at, err := cursor.Parse(e.controlCursor())
	if err != nil {
		t.Fatal(err)
	}
	pool := newPool(t, e.workerURL)
	reader := e.reader(pool, "counters")
	// Backends tell what they have read within a second or two, and when they end.
	read := func() int {
		was := -1
		for {
			now := one[int](e.admin(), `select sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))
				from pg_statio_all_tables where relname like 'changes\_%'`)
			if now == was {
				return now
			}
			was = now
			time.Sleep(1500 * time.Millisecond)
		}
	}
	before := read()
	for i := range claims {
		e.exec("update counters set version = version + 1 where id = $1", i+1)
		var entries source.Entries
		b, err := reader.Claim(t.Context(), at, 1000, &entries)
		if err != nil {
			t.Fatal(err)
		}
		if at = b.Next; b.Changes != 1 || entries.Len() != 1 {
			t.Fatalf("%d changes, %d entries", b.Changes, entries.Len())
		}
	}
	pool.Close()
	if n := (read() - before) / claims; n > 30 {
		t.Errorf("%d blocks of change tables were read for each change", n)
	}
}

// A sink that lapsed has missed what was let go, whatever else happened meanwhile: after a
// crash its lane begins at the floor of the change table, which is above where it was.
func TestSinkThatLapsesAroundACrashIsWarmedWhenItIsBack(t *testing.T) {
	tl := newTimelines(t, nil)
	e := tl.env
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("select freshet.create_sink('away', 'counters', key => 'away:${id}', max_pending => 2000)")
	e.start()
	e.settle()
	e.exec("select freshet.pause_sink('away')")
	if err := tl.first.Crash(); err != nil {
		t.Fatal(err)
	}
	tl.restart()
	e.await("it lapses", func() bool {
		e.exec("update counters set version = version + 1")
		return e.stateOf("away") == "lapsed"
	})
	e.exec("delete from counters where id > 2500")
	e.await("its backlog is let go", func() bool {
		e.exec("update counters set version = version + 1 where id < 10")
		return one[int](e, "select count(*) from freshet.changes_2 where op = 'd'") == 0
	})
	e.exec("select freshet.resume_sink('away')")
	e.await("it has caught up", func() bool { return e.stateOf("away") == "live" })
	e.settle()
	e.inStep("away:*", countersPromise("away"))
	e.inStep("counters:*", countersPromise("counters"))
}

// With no worker at all, capture stops before the disk is full. The writers do not notice.
func TestCaptureStopsWhereNobodyRotates(t *testing.T) {
	e := newEnv(t)
	e.exec("update freshet.installation set stop_bytes = 1 << 18")
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.start()
	e.settle()
	stop()
	for range 12 {
		e.exec("update counters set version = version + 1")
	}
	full := e.changeBytes()
	for range 4 {
		e.exec("update counters set version = version + 1")
	}
	e.exec("delete from counters where id % 3 = 0")
	// Vacuum may add a page to its maps.
	if now := e.changeBytes(); now > full+64<<10 {
		t.Errorf("the change table grew from %d to %d bytes past its mark", full, now)
	}
	if gaps := e.gaps(); len(gaps) != 1 {
		t.Errorf("gaps: %q, want one", gaps)
	}
	e.start()
	e.mended()
	e.inStep("counters:*", countersPromise("counters"))
	e.exec("update counters set version = version + 1")
	e.mended()
	e.inStep("counters:*", countersPromise("counters"))
}

// A target that has gone back further than the change table does: only a look at
// everything helps.
func TestCursorFromBeforeTheFloorIsNoticed(t *testing.T) {
	e := newEnv(t)
	e.hurry()
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.start()
	e.settle()
	stop()
	old := e.dump()
	e.start()
	e.exec("update counters set version = 7; delete from counters where id > 900")
	before := e.floor()
	e.await("the changes are gone from the change table", func() bool {
		e.exec("update counters set version = version + 1 where id = 1")
		return e.floor() != before && one[int](e, "select count(*) from freshet.changes_1 where op = 'd'") == 0
	})
	e.restore(old)
	e.await("it is warmed again", func() bool { return e.rewarms() > 0 })
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
}

// Rotation writes the trigger function anew and comes to the change table again after that; who
// drops the sink locks the change table and then drops the function, and who creates one with
// another key writes that anew.
func TestSinksAreChangedWhileTheirChangeTableIsRotated(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"drop":   "select freshet.drop_sink('users')",
		"create": "select freshet.create_sink('named', 'users', key => 'named:${name}', value => 'count(*)')",
		"alter":  "select freshet.alter_sink('users', key => 'users:${name}:${id}')",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).admin()
			e.exec(usersTable)
			e.exec("create index on users (name)")
			e.exec("select freshet.create_sink('users', 'users', backfill => false)")
			tx := e.begin()
			// As freshet.rotate does it, up to there.
			e.in(tx, "select pg_advisory_xact_lock(1181905014, 1)", "select freshet.keep_1('switch', 2)")
			done := make(chan error, 1)
			go func() {
				_, err := e.db.Exec(t.Context(), statement)
				done <- err
			}()
			e.await("it waits", func() bool {
				return one[bool](e, `select exists (select from pg_stat_activity where datname = current_database()
					and (wait_event_type = 'Lock' or wait_event = 'PgSleep') and query = $1)`, statement)
			})
			e.in(tx, "select pg_relation_size('freshet.changes_1_1')", "select freshet.has_unseen(1, 1, pg_current_snapshot())")
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// A backup reads all tables from its beginning to its end.
func TestChangeTableIsRotatedBesideAReader(t *testing.T) {
	e := newEnv(t).admin()
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.hurry()
	reader := e.begin()
	defer reader.Rollback(context.Background())
	e.in(reader, "select freshet.pending(1, '1:1:')", "lock table freshet.changes_1 in access share mode")
	for n := range 3 {
		// Errors if it had to wait for the reader.
		e.await("it goes on", func() bool {
			e.exec("insert into users (id, name) select count(*) + 1, 'one' from users")
			e.exec("select freshet.rotate(1)")
			return one[int](e, "select count(*) from freshet.segment where number > 2") > n
		})
	}
}

// Who has a partition locked is not asked for it; who has a change table locked, and then drops
// a sink, waits for rotation, which waits half a second.
func TestRotationWaitsForNobodyForLong(t *testing.T) {
	e := newEnv(t).admin()
	e.exec("create table parts (id int primary key, v int) partition by range (id); create table parts_all partition of parts default")
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	migration := e.begin()
	e.in(migration, "alter table parts_all alter column v set statistics 100", "lock table parts_all in access exclusive mode")
	e.exec("select freshet.rotate(1)")
	e.in(migration, "lock table freshet.changes_1_1 in access exclusive mode")
	rotated := make(chan error, 1)
	go func() {
		_, err := e.db.Exec(t.Context(), "select freshet.rotate(1)")
		rotated <- err
	}()
	e.await("rotation waits", func() bool {
		return e.locked("select freshet.rotate(1)")
	})
	e.in(migration, "select freshet.drop_sink('parts')")
	if err := migration.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-rotated; !pg.IsLocked(err) {
		t.Errorf("rotation said %v, want that something is locked", err)
	}
}
