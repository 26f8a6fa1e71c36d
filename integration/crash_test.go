package integration

import (
	"cmp"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/source"
)

// Transactions whose end never reached the disk leave nothing that a crash would keep: their
// ids are given out again afterwards. A cursor that has seen them end would hide what
// commits under the same ids then.
func TestReusedTransactionIdsHideNothing(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"})
	databaseURL, err := server.CreateDatabase(t.Context(), "reuse")
	if err != nil {
		t.Fatal(err)
	}
	e := newEnvOn(t, databaseURL, serverstest.Redis(t))
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	const next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
	// When else Postgres flushes is its own affair: not every crash has ids come again.
	for came := false; !came; {
		e.exec("update users set name = name || '.' where id = 1")
		e.settle()
		stop()
		for range 200 {
			tx := e.begin()
			e.in(tx, "select pg_current_xact_id()")
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// A lane that finds nothing to do leaves a cursor behind that sees them, just before it
		// gives its lease back, which is waited for: this is a crash in between.
		e.redis.HSet(t.Context(), one[string](e, "select 'freshet:' || i.id || ':' || s.id || ':0' from freshet.installation i, freshet.sink s"),
			"cursor", one[string](e, "select pg_current_snapshot()::text"))
		reached := one[int64](e, next)
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.await("Postgres is back", func() bool { return e.db.Ping(t.Context()) == nil })
		again := one[int64](e, next)
		key, err := cursor.Parse(e.controlCursor())
		if err != nil {
			t.Fatal(err)
		}
		came = key.Done.Sees(uint64(again) + 10)
		t.Logf("ids had come to %d, and go on from %d; the control key is at %s", reached, again, key)
		e.exec("update users set name = name || '!' where id between 2 and 50")
		e.exec("delete from users where id = (select max(id) from users)")
		stop = e.start()
		e.settle()
		e.inStep("users:*", usersPromise)
	}
}

// A session remembers of an incarnation what stays as it is. What does not is looked at each time.
func TestIncarnationIsTheSameForASessionThatRemembers(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id bigint primary key); select freshet.create_sink('items', 'items', backfill => false)")
	super := e.admin()
	life := one[string](super, "select freshet.renew_incarnation()")
	pool := newPoolOf(t, e.workerURL, 1)
	sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(t, pool, sink, 0)
	start := e.firstCursor()
	same := func(when, want string) {
		t.Helper()
		for range 2 {
			var entries source.Entries
			b, err := reader.Claim(t.Context(), start, 1000, &entries)
			if err != nil {
				t.Fatal(err)
			}
			var asked *string
			if err := pool.QueryRow(t.Context(), "select freshet.incarnation()").Scan(&asked); err != nil {
				t.Fatal(err)
			}
			if said := cmp.Or(asked, new(string)); b.Incarnation != want || *said != want {
				t.Errorf("%s it is %q, to a claim %q; want %q", when, *said, b.Incarnation, want)
			}
		}
	}
	same("at first", life)
	pool.Reset()
	same("to a new session", life)
	// As poolers do before somebody else has it. Most discard what was prepared in it as well, which the driver would not know of.
	if _, err := pool.Exec(t.Context(), "reset all"); err != nil {
		t.Fatal(err)
	}
	same("to a session that was reset", life)
	if _, err := pool.Exec(t.Context(), "set freshet.server = ''"); err != nil {
		t.Fatal(err)
	}
	same("to one that has forgotten", life)
	super.exec("update freshet.installation set past = 'abc'")
	same("of a server that went back", strings.Replace(life, "."+life[strings.LastIndex(life, ".")+1:], "-abc."+life[strings.LastIndex(life, ".")+1:], 1))
	super.exec("update freshet.installation set past = null; truncate freshet.incarnation")
	same("after a crash", "")
	same("when another is drawn", one[string](super, "select freshet.renew_incarnation()"))
}
