package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// begin opens a transaction on a connection of its own. It is rolled back at the end of
// the test unless it has ended by then.
func (e *env) begin() pgx.Tx {
	e.t.Helper()
	tx, err := e.db.Begin(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// in runs statements in a transaction.
func (e *env) in(tx pgx.Tx, statements ...string) {
	e.t.Helper()
	for _, sql := range statements {
		if _, err := tx.Exec(e.t.Context(), sql); err != nil {
			e.t.Fatalf("%s: %v%s", sql, err, more(err))
		}
	}
}

func (e *env) commit(tx pgx.Tx) {
	e.t.Helper()
	if err := tx.Commit(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

// transaction runs statements in one transaction and commits it.
func (e *env) transaction(statements ...string) {
	e.t.Helper()
	tx := e.begin()
	e.in(tx, statements...)
	e.commit(tx)
}

// follow waits until the entries are in step with the query.
func (e *env) follow(pattern, query string, args ...any) {
	e.t.Helper()
	var last []string
	for p := newPolls(); ; p.pause() {
		if last = e.difference(pattern, query, args...); len(last) == 0 {
			return
		}
		if p.over() {
			e.t.Fatalf("%d entries never came in step with %s:\n%s", len(last), query, strings.Join(last[:min(len(last), 10)], "\n"))
		}
	}
}

// appears waits for an entry.
func (e *env) appears(key string) {
	e.t.Helper()
	e.await(key+" appears", func() bool { return e.entry(key) != "" })
}

// absent fails the test if an entry is there.
func (e *env) absent(key string) {
	e.t.Helper()
	if got := e.entry(key); got != "" {
		e.t.Fatalf("%s is there: %s", key, got)
	}
}

// asleep waits until a worker sleeps on a source of this database.
func (e *env) asleep() {
	e.t.Helper()
	e.await("a worker sleeps", func() bool {
		return one[bool](e, `select exists (select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
			and classid = 1181905011 and database = (select oid from pg_database where datname = current_database()))`)
	})
}

// median runs step n times and returns the median of how long it took.
func median(n int, step func(i int)) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		step(i)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n/2]
}

// quick bounds the median wait for a lane that is awake or woken. The look each second
// alone would make it half a second.
const quick = 300 * time.Millisecond

// controlCursor is the cursor in the control key of the first lane of the first sink.
func (e *env) controlCursor() string {
	e.t.Helper()
	key := one[string](e, "select 'freshet:' || i.id || ':' || s.id || ':0' from freshet.installation i, freshet.sink s order by s.id limit 1")
	return e.redis.HGet(e.t.Context(), key, "cursor").Val()
}

// lazyUsers makes the table users and a sink of it, without a backfill, and a worker.
func (e *env) lazyUsers() {
	e.t.Helper()
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.start()
	e.asleep()
}

func TestTransactionsMayCommitInReverseOrder(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()

	first, second := e.begin(), e.begin()
	e.in(first, "insert into users (id, name) values (1, 'captured first')")
	e.in(second, "insert into users (id, name) values (2, 'captured second')")
	e.commit(second)
	e.appears("users:2")
	e.absent("users:1")
	e.commit(first)
	e.appears("users:1")

	// The other way about: the id of the transaction is drawn first, and its change is
	// captured last.
	first, second = e.begin(), e.begin()
	e.in(first, "select pg_current_xact_id()")
	e.in(second, "insert into users (id, name) values (3, 'younger, captured first')")
	e.in(first, "insert into users (id, name) values (4, 'older, captured second')")
	e.commit(first)
	e.appears("users:4")
	e.absent("users:3")
	e.commit(second)
	e.appears("users:3")

	e.settle()
	e.inStep("users:*", usersPromise)
}

// What is timed is not run beside everything else.
func TestOpenWriterHoldsNobodyUp(t *testing.T) {
	for _, end := range []string{"commit", "rollback"} {
		t.Run(end, func(t *testing.T) {
			e := newEnv(t)
			e.lazyUsers()
			open := e.begin()
			e.in(open, "insert into users (id, name) select g, 'of the open writer' from generate_series(1, 50) g")

			var writers sync.WaitGroup
			for w := range 4 {
				writers.Go(func() {
					for i := range 600 {
						if _, err := e.db.Exec(t.Context(), "insert into users (id, name) values ($1, 'other')", 1000*(w+1)+i); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			e.follow("users:*", usersPromise)
			lag := median(15, func(i int) {
				e.exec("insert into users (id, name) values ($1, 'single')", 100_000+i)
				e.appears(fmt.Sprintf("users:%d", 100_000+i))
			})
			if lag > quick {
				t.Errorf("with a writer open, the median change took %v", lag)
			}
			e.absent("users:1")

			e.in(open, end)
			e.exec("insert into users (id, name) values (0, 'after it')")
			e.appears("users:0")
			e.settle()
			e.inStep("users:*", usersPromise)
		})
	}
}

func TestUncommittedChangesAreNotWalkedOver(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	open := e.begin()
	e.in(open, "insert into users (id, name) select g, 'of the open writer' from generate_series(1000, 300000) g")
	lag := median(15, func(i int) {
		e.exec("insert into users (id, name) values ($1, 'single')", i)
		e.appears(fmt.Sprintf("users:%d", i))
	})
	if lag > quick {
		t.Errorf("beside 300,000 uncommitted changes, the median change took %v", lag)
	}
	// What the lane asks each time it looks, on its own.
	passed := one[string](e, "select passed::text from freshet.lease where kind = 'sync'")
	look := median(15, func(int) { one[bool](e, "select freshet.has_changes(1, $1::text::pg_snapshot)", passed) })
	if look > quick/3 {
		t.Errorf("beside 300,000 uncommitted changes, one look took %v", look)
	}
	e.in(open, "rollback")
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestLargeTransactionIsWalkedOnAfterAStop(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, 300000) g")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	stop := e.start()
	e.asleep()
	e.exec("update users set name = 'new'")
	var cursor string
	e.await("the lane is inside the window", func() bool {
		cursor = e.controlCursor()
		return strings.Contains(cursor, " ")
	})
	stop()
	cursor = e.controlCursor()
	place := strings.Fields(cursor)
	if len(place) != 4 {
		t.Fatalf("the stopped lane left the cursor %q, not a place inside a window", cursor)
	}
	// An entry from before the place: whoever begins again from the start writes it.
	written := one[int64](e, `select min(k1) from freshet.changes_1
		where (xid, id) <= ($1::text::xid8, $2::text::bigint)`, place[2], place[3])
	left := one[int](e, "select count(*) from freshet.changes_1 where (xid, id) > ($1::text::xid8, $2::text::bigint)", place[2], place[3])
	if left == 0 {
		t.Fatal("the stopped lane had walked everything")
	}
	mark := fmt.Sprintf("users:%d", written)
	e.appears(mark)
	e.redis.Del(t.Context(), mark)

	e.start()
	e.settle()
	e.inStep("users:*", usersPromise+" where id <> $1", written)
}

func TestSavepointsCountAsTheirTransaction(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, 40) g")
	e.exec(`create function shielded(id bigint, fail bool) returns void language plpgsql as $$
		begin
			update users u set name = 'shielded' where u.id = shielded.id;
			if fail then
				raise exception 'undo';
			end if;
		exception when raise_exception then
			update users u set name = 'handled' where u.id = shielded.id + 10;
		end $$`)
	e.follow("users:*", usersPromise)

	// The first capture of the transaction is in a savepoint that is rolled back.
	e.transaction("savepoint a", "update users set name = 'undone' where id = 1", "rollback to a",
		"update users set name = 'done' where id = 2")
	// In one that is released.
	e.transaction("savepoint a", "update users set name = 'done' where id = 3", "release a",
		"update users set name = 'done' where id = 4")
	// Nested: what is released goes with what is rolled back around it.
	e.transaction("savepoint a", "update users set name = 'undone' where id = 5",
		"savepoint b", "update users set id = 105 where id = 6", "release b",
		"rollback to a", "delete from users where id = 7",
		"savepoint c", "savepoint d", "update users set name = 'undone' where id = 8", "rollback to d",
		"insert into users (id, name) values (108, 'done')", "release c")
	// All is rolled back but nothing.
	e.transaction("savepoint a", "delete from users where id = 9", "rollback to a")
	// Exception blocks, as the first and as a later write of the transaction.
	e.transaction("select shielded(11, true)", "select shielded(12, false)", "select shielded(13, true)")
	e.transaction("update users set name = 'done' where id = 14", "select shielded(15, true)", "select shielded(16, false)")
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int](e, "select count(*) from freshet.capture_gaps"); n != 0 {
		t.Errorf("%d gaps", n)
	}
}

func TestPreparedTransactionIsFollowedWhenItCommits(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, map[string]string{"max_prepared_transactions": "10"})
	url, err := server.CreateDatabase(t.Context(), "prepared")
	if err != nil {
		t.Fatal(err)
	}
	e := newEnvOn(t, url, serverstest.Redis(t))
	e.lazyUsers()

	for id, end := range []string{"commit prepared", "rollback prepared"} {
		e.asleep()
		tx := e.begin()
		e.in(tx, fmt.Sprintf("insert into users (id, name) values (%d, 'prepared')", id), fmt.Sprintf("prepare transaction 'p%d'", id))
		other := 100 + id
		e.exec("insert into users (id, name) values ($1, 'meanwhile')", other)
		e.appears(fmt.Sprintf("users:%d", other))
		e.absent(fmt.Sprintf("users:%d", id))
		e.exec(fmt.Sprintf("%s 'p%d'", end, id))
		e.settle()
		e.inStep("users:*", usersPromise)
	}
	e.appears("users:0")
	e.absent("users:1")

	// What an operator does in a transaction of his own can be prepared as well.
	tx := e.begin()
	e.in(tx, "select freshet.backfill('users')", "prepare transaction 'backfill'")
	e.redis.Del(t.Context(), "users:0")
	e.exec("commit prepared 'backfill'")
	e.appears("users:0")
}

func TestWritesBesideCreateSinkInOneTransaction(t *testing.T) {
	e := newEnv(t)
	e.start()
	other := e.begin() // keeps the snapshots' xmin down
	e.in(other, "select pg_current_xact_id()")

	e.transaction(usersTable,
		"insert into users (id, name) select g, 'before' from generate_series(1, 10) g",
		"select freshet.create_sink('users', 'users')",
		"insert into users (id, name) values (11, 'after')",
		"update users set name = 'changed after' where id = 2",
		"update users set id = 103 where id = 3",
		"delete from users where id = 4")
	e.settle()
	e.inStep("users:*", usersPromise)

	// Without a backfill, what follows create_sink is all there is.
	e.exec("create table pets (id int primary key, name text)")
	tx := e.begin()
	e.in(tx, "insert into pets values (1, 'before'), (2, 'before')")
	e.exec("select pg_current_xact_id()") // a younger transaction ends: this one's own snapshots now count it as ended
	e.in(tx, "select freshet.create_sink('pets', 'pets', backfill => false)",
		"insert into pets values (3, 'after')",
		"update pets set name = 'changed after' where id = 2")
	e.commit(tx)
	e.settle()
	e.inStep("pets:*", "select 'pets:' || id, to_jsonb(p)::text from pets p where id > 1")

	// Rolled back, it leaves nothing.
	tx = e.begin()
	e.in(tx, "create table ghosts (id int primary key)", "select freshet.create_sink('ghosts', 'ghosts')",
		"insert into ghosts values (1)", "rollback")
	e.settle()
	e.inStep("ghosts:*", "select ''::text, ''::text where false")
}

func TestSecondSinkOfASourceSeesWhatIsOpen(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	open := e.begin()
	e.in(open, "insert into users (id, name) values (1, 'open')")
	// The capture is there already: this does not wait for the writer.
	e.exec("select freshet.create_sink('names', 'users', key => 'names:${id}', columns => '{name}', backfill => false)")
	e.exec("insert into users (id, name) values (2, 'meanwhile')")
	e.appears("names:2")
	e.commit(open)
	e.settle()
	e.inStep("names:*", "select 'names:' || id, jsonb_build_object('name', name)::text from users")
	e.inStep("users:*", usersPromise)
}

func TestEveryKindOfStatementIsFollowed(t *testing.T) {
	e := newEnv(t)
	e.exec("create table parents (id int primary key)")
	e.exec(usersTable)
	e.exec("create table family (id int primary key, parent int references parents on delete cascade on update cascade)")
	e.exec("insert into parents select generate_series(1, 20)")
	e.exec("insert into family select g, (g - 1) / 10 + 1 from generate_series(1, 200) g")
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, 200) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('family', 'family')")
	e.start()
	e.settle()

	const family = "select 'family:' || id, to_jsonb(f)::text from family f"
	version := one[int](e, "select current_setting('server_version_num')::int")
	for _, c := range []struct {
		name       string
		since      int
		statements []string
	}{
		{"key update", 0, []string{"update users set id = id + 1000 where id <= 10"}},
		{"key update there and back", 0, []string{"update users set id = 5000 where id = 11", "update users set id = 11 where id = 5000"}},
		{"key handed on", 0, []string{"update users set id = 5001 where id = 12", "update users set id = 12, name = 'heir' where id = 13"}},
		{"two keys swapped", 0, []string{"update users set id = -id where id in (30, 31)", "update users set id = case id when -30 then 31 else 30 end where id in (-30, -31)"}},
		{"delete and insert of one key", 0, []string{"delete from users where id = 14", "insert into users (id, name) values (14, 'again')"}},
		{"insert and delete of one key", 0, []string{"insert into users (id, name) values (6000, 'short')", "delete from users where id = 6000"}},
		{"on conflict do update", 0, []string{"insert into users (id, name) select g, 'upserted' from generate_series(195, 205) g on conflict (id) do update set name = excluded.name"}},
		{"on conflict moves the key", 0, []string{"insert into users (id, name) values (20, 'x') on conflict (id) do update set id = 7020"}},
		{"on conflict do nothing", 0, []string{"insert into users (id, name) values (21, 'x'), (7021, 'x') on conflict do nothing"}},
		{"merge", 150000, []string{`merge into users u using (select generate_series(100, 110) as id union select 8000) s on u.id = s.id
			when matched and u.id < 103 then delete
			when matched then update set name = 'merged', id = u.id + 9000
			when not matched then insert (id, name) values (s.id, 'merged in')`}},
		{"writing CTE", 0, []string{`with gone as (delete from users where id between 120 and 125 returning id, name)
			insert into users (id, name) select id + 20000, name from gone`}},
		{"cascade of a delete", 0, []string{"delete from parents where id = 3"}},
		{"cascade of a key update", 0, []string{"update parents set id = 104 where id = 4"}},
		{"load as a replica", 0, []string{"set local session_replication_role = replica",
			"insert into users (id, name) values (9100, 'loaded')", "update users set id = 9150 where id = 150", "delete from users where id = 151"}},
		{"truncate and fill", 0, []string{"truncate users", "insert into users (id, name) values (1, 'first')"}},
	} {
		if version < c.since {
			continue
		}
		e.admin().transaction(c.statements...)
		t.Log(c.name)
		e.follow("users:*", usersPromise)
		e.follow("family:*", family)
	}

	rows := make([][]any, 5000)
	for i := range rows {
		rows[i] = []any{int64(30_000 + i), "copied"}
	}
	if _, err := e.db.CopyFrom(t.Context(), pgx.Identifier{"users"}, []string{"id", "name"}, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("family:*", family)
}

func TestKeysMovedByCaseInOneStatement(t *testing.T) {
	e := newEnv(t)
	// Only a deferrable key lets two rows swap in one statement, and that one cannot order
	// a backfill.
	e.exec("create table seats (id int, guest text, primary key (id) deferrable)")
	e.refused("is deferrable", "select freshet.create_sink('seats', 'seats')")
	e.exec("create table places (id int, side int, guest text, primary key (id, side))")
	e.exec("insert into places select g, g % 2, 'guest ' || g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('places', 'places')")
	e.start()
	e.settle()
	const promise = "select 'places:' || id || ':' || side, to_jsonb(p)::text from places p"
	e.inStep("places:*", promise)

	// Each row takes the id of the other; a side apart, so that no two are the same on the way.
	e.exec("update places set side = case id when 1 then 2 when 2 then 3 end where id in (1, 2)")
	e.exec("update places set id = case id when 1 then 2 else 1 end where id in (1, 2)")
	e.exec("update places set guest = case id when 3 then 'guest 4' else 'guest 3' end where id in (3, 4)")
	e.settle()
	e.inStep("places:*", promise)
}
