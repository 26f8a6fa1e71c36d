package integration

import (
	"compress/gzip"
	"io"
	"os"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// A database with an earlier version in it, sinks and unread changes included, is brought up to this one and misses nothing.
// install-1.sql is what that version installed.
func TestInstallationOfAnEarlierVersionIsMigrated(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/install-1.sql.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	install, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	databaseURL := serverstest.Postgres(t)
	before := newPool(t, databaseURL)
	if _, err := before.Exec(t.Context(), string(install)); err != nil {
		t.Fatal(err)
	}
	before.Close()
	e := environment(t, databaseURL, serverstest.Redis(t))
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 500) g")
	e.exec("create table events (id bigint, day int, name text, primary key (id, day)) partition by range (day)")
	e.exec("create table events_1 partition of events for values from (0) to (10); create table events_2 partition of events for values from (10) to (20)")
	e.exec("insert into events select g, g % 20, 'event' from generate_series(1, 200) g")
	e.exec("select freshet.create_sink('users', 'users'), freshet.create_sink('events', 'events', key => 'events:${id}:${day}')")
	e.exec("update users set name = 'captured before' where id <= 100")
	e.exec("delete from users where id = 400; delete from events where id = 150; truncate events_2")
	if version := one[int](e.admin(), "select max(version) from freshet.schema_version"); version != 1 {
		t.Fatalf("it is version %d", version)
	}

	e.migrate()
	e.exec("update users set name = 'captured after' where id between 50 and 150")
	e.start()
	const eventsPromise = "select 'events:' || id || ':' || day, to_jsonb(e)::text from events e"
	e.follow("users:*", usersPromise)
	e.follow("events:*", eventsPromise)
	e.mended()
	e.exec("update users set name = name || '.' where id % 3 = 0; update events set name = 'later' where id < 50")
	e.follow("users:*", usersPromise)
	e.follow("events:*", eventsPromise)
	e.exec("select freshet.create_sink('names', 'users', key => 'names:${id}', columns => '{name}')")
	e.follow("names:*", "select 'names:' || id, jsonb_build_object('name', name)::text from users")
	for _, sink := range []string{"users", "events", "names"} {
		e.exec("select freshet.drop_sink($1)", sink)
	}
	e.await("nothing is left", func() bool {
		return one[bool](e, "select not exists (select from freshet.sinks)") && e.redis.DBSize(t.Context()).Val() < 20
	})
	if gaps := e.gaps(); len(gaps) > 0 {
		t.Errorf("gaps: %q", gaps)
	}
}
