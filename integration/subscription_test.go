package integration

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// What a subscription applies fires row-level triggers only, and only those that are
// enabled always.
func TestSubscribedTableIsFollowed(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, map[string]string{
		"wal_level": "logical", "max_prepared_transactions": "0", "max_logical_replication_workers": "8", "wal_receiver_status_interval": "1s",
	})
	database := func(name string) *env {
		t.Helper()
		u, err := server.CreateDatabase(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return newEnvOn(t, u, serverstest.Redis(t))
	}
	// Subscriptions and slots are a superuser's.
	publisher, e := database("publisher").admin(), database("subscriber").admin()
	const schema = `
		create table users (id bigint primary key, name text, email text unique);
		create table prices (code numeric primary key, note text);
		create table parted (id int, day date, n int, primary key (id, day)) partition by range (day);
		create table parted_1 partition of parted for values from ('2026-01-01') to ('2026-02-01');
		create table parted_2 partition of parted for values from ('2026-02-01') to ('2026-03-01')`
	publisher.exec(schema)
	e.exec(schema)
	publisher.exec("insert into users select g, 'user ' || g, 'u' || g from generate_series(1, 500) g")
	publisher.exec("create publication everything for table users, prices, parted")
	// Both are on one server, where the slot cannot be made by the subscription itself.
	publisher.exec("select pg_create_logical_replication_slot('everything', 'pgoutput')")
	e.exec(fmt.Sprintf("create subscription everything connection %s publication everything with (create_slot = false, slot_name = 'everything', enabled = false)",
		quoted(publisher.seenFromServer())))

	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('emails', 'users', key => 'email:${email}', columns => '{id}')")
	e.exec("select freshet.create_sink('prices', 'prices')")
	e.exec("select freshet.create_sink('parted', 'parted')")
	e.start()
	e.exec("alter subscription everything enable")
	promises := map[string]string{
		"users:*":  usersPromise,
		"email:*":  "select 'email:' || email, jsonb_build_object('id', id)::text from users where email is not null",
		"prices:*": "select 'prices:' || code, to_jsonb(p)::text from prices p",
		"parted:*": "select 'parted:' || id || ':' || day, to_jsonb(p)::text from parted p",
	}
	// The publisher's tables say what the subscriber's entries have to be.
	check := func() {
		t.Helper()
		for pattern, promise := range promises {
			e.await(pattern+" comes in step", func() bool {
				want := one[string](publisher, "select coalesce(jsonb_object_agg(key, value), '{}')::text from ("+promise+") x (key, value)")
				return sameJSON(one[string](e, "select coalesce(jsonb_object_agg(key, value), '{}')::text from ("+promise+") x (key, value)"), want) &&
					len(e.difference(pattern, promise)) == 0
			})
		}
	}
	check() // what was there when the subscription began

	for _, sql := range []string{
		"insert into users select g, 'late', 'u' || g from generate_series(501, 600) g",
		"update users set name = 'changed' where id % 3 = 0",
		"update users set id = id + 10000, email = case when id % 5 = 0 then 'moved' || id end where id % 7 = 0",
		"delete from users where id % 11 = 0",
		"insert into prices values (1.0, 'one'), (2.50, 'more')",
		"update prices set code = 1.00 where code = 1",
		"insert into parted select g, '2026-01-31'::date + g % 2, g from generate_series(1, 40) g",
		"update parted set day = '2026-02-10' where id % 3 = 0",
		"delete from parted where id % 5 = 0",
		"begin; update users set name = 'rolled back'; rollback",
	} {
		publisher.exec(sql)
	}
	check()
	publisher.exec("truncate users, parted")
	publisher.exec("insert into users values (1, 'after', 'u1')")
	check()
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
	e.settle()
	for pattern, promise := range promises {
		e.inStep(pattern, promise)
	}
}

// seenFromServer is how the server itself connects to the database, wherever it runs.
func (e *env) seenFromServer() string {
	e.t.Helper()
	u, err := url.Parse(e.databaseURL)
	if err != nil {
		e.t.Fatal(err)
	}
	password, _ := u.User.Password()
	return one[string](e, `select format('host=%s port=%s user=%s password=%s dbname=%s', host(inet_server_addr()), inet_server_port(),
		current_user, quote_literal($1::text), current_database())`, password)
}

// A publication of all tables, as change data capture and upgrades make them, is in the way of nothing.
func TestPublicationOfAllTables(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.admin().exec("create publication everything for all tables")
	e.start()
	e.settle()
	e.mended()
	e.exec("alter table users disable trigger user; update users set name = 'missed' where id = 7; alter table users enable trigger user")
	e.follow("users:*", usersPromise)
	e.mended()
	e.exec("select freshet.drop_sink('users')")
	e.await("the sink is gone", func() bool { return one[int](e.admin(), "select count(*) from freshet.sink") == 0 })
}
