package integration

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// startTold is startWith that returns what the worker says.
func (e *env) startTold() *buffer {
	e.t.Helper()
	said := new(buffer)
	e.startWith(func(c *worker.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	return said
}

// awaitSaid waits until one line of the log has all of these texts.
func (e *env) awaitSaid(said *buffer, texts ...string) {
	e.t.Helper()
	e.await("the log has a line with "+strings.Join(texts, " and "), func() bool { return timesSaid(said, texts...) > 0 })
}

// timesSaid is how many lines of the log have all of these texts.
func timesSaid(said *buffer, texts ...string) (lines int) {
next:
	for line := range strings.Lines(said.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		lines++
	}
	return lines
}

// Numbers are nobody's names: who reads the log looks for a sink by what he calls it.
func TestLogNamesSinksAndSources(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users'), freshet.create_sink('gone', 'users', key => 'gone:${id}')")
	said := e.startTold()
	e.settle()
	if err := e.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	e.awaitSaid(said, "the target has lost its control key", "sink=users", "target=default")
	e.settle()

	e.exec("drop table freshet.changes_1 cascade")
	e.awaitSaid(said, "capture was not as it should be", "source=public.users")
	e.settle()

	// The target goes back to a time when there was a sink that is gone.
	const owners = "freshet:owners"
	e.await("the sinks own their keys", func() bool { return e.redis.HLen(t.Context(), owners).Val() == 2 })
	before := e.redis.HGetAll(t.Context(), owners).Val()
	e.exec("select freshet.drop_sink('gone')")
	e.await("it is gone", func() bool { return !one[bool](e, "select exists (select from freshet.sink where name <> 'users')") })
	if err := e.redis.HSet(t.Context(), owners, before).Err(); err != nil {
		t.Fatal(err)
	}
	e.awaitSaid(said, "the target has entries again of a sink", "sink=gone", "target=default")
}

// What is in a row, its key included, is shown to those who may look into the database, and to no log.
func TestLogKeepsValuesOfRowsToItself(t *testing.T) {
	e := newEnv(t)
	e.exec(measures)
	e.exec("insert into measures (id, x) select 9000000 + g, g from generate_series(1, 3000) g")
	e.judge("if x = 5 then raise exception 'the note of 9000005'; end if; if x = 6 then perform 'word of 9000006'::int; end if;")
	e.exec(judgedSink)
	said := e.startTold()
	e.awaitFailing("measures:9000005", "measures:9000006")
	e.awaitSaid(said, "entries fail", "sink=measures", "target=default", "sqlstate=", "freshet.failures")
	e.settle()

	// So many that the sink is stopped.
	e.judge("raise exception 'the note of %', id;")
	e.exec("update measures set note = 'changed'")
	e.awaitSaid(said, "the sink is stopped", "sink=measures", "SQLSTATE P0001", "freshet.failures")
	e.await("the view says it whole", func() bool {
		return strings.Contains(one[string](e, "select coalesce(last_error, '') from freshet.status"), "the note of 9")
	})

	// A trigger that cannot record what it was to record notes why.
	e.admin().exec("insert into freshet.capture_gap (source_id, operation, code, message) values (1, 'insert', '22003', 'value 9000007 is out of range')")
	e.awaitSaid(said, "capture was not as it should be", "1 changes were not captured (SQLSTATE 22003)")
	if n := timesSaid(said, "900000"); n > 0 {
		t.Errorf("%d lines of the log have a value of a row:\n%s", n, said)
	}
}

// A server that is away is told of once by each who misses it, not at each attempt.
func TestLogIsShortWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	postgres := serverstest.PostgresWith(t, nil)
	databaseURL, err := postgres.CreateDatabase(t.Context(), "away")
	if err != nil {
		t.Fatal(err)
	}
	e := newEnvOn(t, databaseURL, serverstest.Redis(t))
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	said := new(buffer)
	w, _ := e.startWith(func(c *worker.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	e.settle()
	if err := postgres.Halt(); err != nil {
		t.Fatal(err)
	}
	e.awaitSaid(said, "the doorbell is out of order")
	e.await("it is away for ten seconds", func() bool { return e.scrape(w)["freshet_heartbeat_age_seconds"] > 10 })
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.awaitSaid(said, "the doorbell rings again")
	e.awaitSaid(said, "the heartbeat is back")
	// At first connections are lost, then the server does not let anybody in, and then none can be made.
	for text, most := range map[string]int{"the doorbell is out of order": 4, "the heartbeat fails": 4, "Error fetching jobs": 4, "the doorbell rings again": 1} {
		if n := timesSaid(said, text); n > most {
			t.Errorf("%d lines say %q", n, text)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
	e.settle()
}

// One source that cannot be mended hides no other from the log, and is not told of at each attempt.
func TestEachSourceThatCannotBeMendedIsToldOfOnce(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table goods (id bigint primary key)")
	e.exec("select freshet.create_sink('users', 'users'), freshet.create_sink('goods', 'goods')")
	said := new(buffer)
	w, _ := e.startWith(func(c *worker.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	e.settle()
	const keeper = `create or replace function freshet.keep_%d(task text, segment integer) returns boolean
		language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin %s end $$`
	const text = "capture cannot be looked after"
	for i, table := range []string{"users", "goods"} {
		e.admin().exec(fmt.Sprintf(keeper, i+1, "raise exception 'not today';"))
		e.exec("drop trigger freshet_insert on " + table)
		e.awaitSaid(said, text, "source=public."+table, "not today")
	}
	e.await("it was tried again", func() bool { return one[bool](e.admin(), "select min(mend_tries) > 2 from freshet.source") })
	for _, table := range []string{"users", "goods"} {
		if n := timesSaid(said, "level=WARN", "source=public."+table); n != 1 {
			t.Errorf("%d lines tell of %s:\n%s", n, table, said)
		}
	}
	e.awaitSeries(w, "freshet_upkeep_failures_total", atLeast(6))
	for i, table := range []string{"users", "goods"} {
		e.admin().exec(fmt.Sprintf(keeper, i+1, fmt.Sprintf("return freshet.keep(%d, task, segment);", i+1)))
		e.admin().exec("update freshet.source set mend_after = null")
		e.awaitSaid(said, "capture is looked after again", "source=public."+table)
	}
	e.mended()
}

// Whoever has a table locked for a moment is nobody's trouble; who keeps it is told of, once.
func TestLockedSourceIsToldOfOnceItLasts(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	said := e.startTold()
	e.settle()
	tx := e.begin()
	e.in(tx, "lock table users in row exclusive mode")
	e.admin().exec("insert into freshet.capture_gap (source_id, operation, code, message) values (1, 'update', '53100', 'no room')")
	e.await("mend could not have the table", func() bool {
		return one[bool](e.admin(), "select mend_error is not null from freshet.source")
	})
	if n := timesSaid(said, "level=WARN"); n > 0 {
		t.Errorf("it was told at once:\n%s", said)
	}
	e.awaitSaid(said, "capture cannot be looked after", "source=public.users", "somebody keeps something locked")
	e.commit(tx)
	e.awaitSaid(said, "capture is looked after again", "source=public.users")
	if n := timesSaid(said, "level=WARN", "locked"); n != 1 {
		t.Errorf("it was told %d times:\n%s", n, said)
	}
	e.mended()
}
