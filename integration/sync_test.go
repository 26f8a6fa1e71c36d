package integration

import "testing"

func TestEntriesFollowTheirRows(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.inStep("users:*", usersPromise)

	e.exec("update users set name = 'changed' where id % 7 = 0")
	e.exec("delete from users where id % 11 = 0")
	e.exec("insert into users (id, name) select g, 'late ' || g from generate_series(6001, 6500) g")
	e.exec("update users set id = id + 100000 where id % 13 = 0")
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestFilterDecidesWhoHasAnEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name, active) select g, 'user', g % 2 = 0 from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('active', 'users', key => 'active:${id}', columns => '{id,name}', filter => 'active')")
	promise := `select 'active:' || id, jsonb_build_object('id', id, 'name', name)::text from users where active`
	e.start()
	e.settle()
	e.inStep("active:*", promise)

	e.exec("update users set active = not active where id % 3 = 0")
	e.settle()
	e.inStep("active:*", promise)
}

func TestTruncateRemovesEveryEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.inStep("users:*", usersPromise)

	e.exec("truncate users")
	e.exec("insert into users (id, name) values (1, 'first again')")
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestDropSinkRemovesItsEntries(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('names', 'users', key => 'names:${id}', columns => '{name}')")
	e.start()
	e.settle()

	e.exec("select freshet.drop_sink('users')")
	e.settle()
	e.inStep("users:*", usersPromise+" where false")
	e.inStep("names:*", `select 'names:' || id, jsonb_build_object('name', name)::text from users`)
	e.exec("select freshet.drop_sink('names', keep_entries => true)")
	e.settle()
	e.inStep("names:*", `select 'names:' || id, jsonb_build_object('name', name)::text from users`)

	if n := one[int](e, "select count(*) from freshet.sink"); n != 0 {
		t.Errorf("%d sinks are left", n)
	}
	if n := one[int](e, "select count(*) from pg_trigger where tgrelid = 'users'::regclass"); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
	for _, key := range e.redis.Keys(t.Context(), "freshet:*").Val() {
		t.Errorf("key left in Redis: %s", key)
	}
}
