package integration

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// session is one connection as some role, and the notices it got.
type session struct {
	*pgx.Conn
	t       *testing.T
	notices []string
}

// login makes a role of the test's own, member of these roles, and connects as it.
func (e *env) login(name string, memberOf ...string) *session {
	e.t.Helper()
	u, err := url.Parse(e.superURL)
	if err != nil {
		e.t.Fatal(err)
	}
	role := fmt.Sprintf("%s_%s", strings.TrimPrefix(u.Path, "/"), name)
	password, _ := u.User.Password()
	e.admin().exec(fmt.Sprintf("create role %s login password '%s'", role, password))
	for _, of := range memberOf {
		e.admin().exec(fmt.Sprintf("grant %s to %s", of, role))
	}
	e.t.Cleanup(func() {
		ctx := context.WithoutCancel(e.t.Context())
		for _, sql := range []string{"reassign owned by %s to current_user", "drop owned by %s", "drop role %s"} {
			if _, err := e.super.Exec(ctx, fmt.Sprintf(sql, role)); err != nil {
				e.t.Error(err)
			}
		}
	})
	config, err := pgx.ParseConfig(as(u, role, password))
	if err != nil {
		e.t.Fatal(err)
	}
	s := &session{t: e.t}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		s.notices = append(s.notices, n.Message+" "+n.Hint)
	}
	if s.Conn, err = pgx.ConnectConfig(e.t.Context(), config); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = s.Close(context.WithoutCancel(e.t.Context())) })
	return s
}

func (s *session) role() string { return s.Config().User }

func (s *session) exec(sql string) {
	s.t.Helper()
	if _, err := s.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%s: %v%s", sql, err, more(err))
	}
}

// refused runs a statement that must fail with this SQLSTATE, and text in the message or
// the hint.
func (s *session) refused(code, text, sql string) {
	s.t.Helper()
	_, err := s.Exec(s.t.Context(), sql)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		s.t.Fatalf("%s: %v; want SQLSTATE %s", sql, err, code)
	}
	if pgErr.Code != code || !strings.Contains(pgErr.Message+" "+pgErr.Hint, text) {
		s.t.Fatalf("%s: %v (%s); want SQLSTATE %s with %q", sql, err, pgErr.Hint, code, text)
	}
}

const denied = "42501"

func TestWorkersRoleCannotChangeSinksOrSources(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table others (id bigint primary key)")
	e.exec("select freshet.create_sink('users', 'users')")
	w := e.login("worker", "freshet_worker")
	for _, sql := range []string{
		"select freshet.create_sink('more', 'users', key => 'more:${id}')",
		"select freshet.alter_sink('users', adopt => true)",
		"select freshet.drop_sink('users')",
		"insert into users (id, name) values (1, 'x')",
		"delete from users",
		"select from others",
		"truncate freshet.changes_1",
		"delete from freshet.changes_1_1",
		"insert into freshet.sink default values",
		"update freshet.sink set filter = 'false'",
		"update freshet.source set floor = pg_current_snapshot()",
		"select freshet.record_gap(1, 'INSERT', 'XX000', 'planted')",
	} {
		w.refused(denied, "permission denied", sql)
	}
	// What a sink was read for ends with the sink.
	e.exec("select freshet.drop_sink('users')")
	w.refused(denied, "permission denied", "select from users")
}

// A role that only uses the table has no right on anything of Freshet's, and none of its
// writes is missed or fails.
func TestApplicationsNeedNoRights(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table events (id bigint, day date, primary key (id, day)) partition by range (day)")
	e.exec("create table events_one partition of events for values from ('2026-01-01') to ('2026-07-01')")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('events', 'events')")
	app := e.login("app")
	e.exec("grant select, insert, update, delete, truncate on users, events, events_one to " + app.role())
	for _, sql := range []string{"select from freshet.sinks", "select freshet.backfill('users')", "select from freshet.changes_1", "select from freshet.river_job"} {
		app.refused(denied, "permission denied for schema freshet", sql)
	}
	e.start()
	app.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	app.exec("update users set name = 'changed' where id % 2 = 0; delete from users where id % 5 = 0; update users set id = id + 1000 where id % 3 = 0")
	app.exec("insert into events_one select g, '2026-02-01' from generate_series(1, 10) g")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("*events:*", "select 'events:' || id || ':' || day, to_jsonb(e)::text from events e")
	app.exec("truncate users; truncate events_one")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("*events:*", "select 'events:' || id || ':' || day, to_jsonb(e)::text from events e")
	if n := one[int](e, "select count(*) from freshet.capture_gaps"); n != 0 {
		t.Errorf("%d gaps", n)
	}
}

func TestOnlyOwnersWhoAreAdminsCreateSinks(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("grant create on schema public to public")
	stranger, admin := e.login("stranger"), e.login("admin", "freshet_admin")
	stranger.exec("create table mine (id bigint primary key)")
	stranger.refused(denied, "permission denied for schema freshet", "select freshet.create_sink('mine', 'mine')")
	admin.refused(denied, "can create a sink on it", "select freshet.create_sink('users', 'users')")
	admin.exec("create table theirs (id bigint primary key)")
	admin.exec("select freshet.create_sink('theirs', 'theirs')")
	e.login("other", "freshet_admin").refused(denied, "only the owner of its source may", "select freshet.drop_sink('theirs')")
	admin.exec("select freshet.drop_sink('theirs', keep_entries => true)")
}

// A table may belong to a group: what one member has set up another one goes on with.
func TestMembersOfTheOwningRoleShareItsCapture(t *testing.T) {
	e := newEnv(t)
	group := e.login("group")
	ada, bob := e.login("ada", "freshet_admin", group.role()), e.login("bob", "freshet_admin", group.role())
	e.exec("grant create on schema public to " + group.role())
	ada.exec("set role " + group.role() + "; create table stock (id bigint primary key, sku text not null unique); reset role")
	ada.refused(denied, "grant freshet_admin to "+group.role(), "select freshet.create_sink('stock', 'stock')")
	e.admin().exec("grant freshet_admin to " + group.role())
	ada.exec("select freshet.create_sink('stock', 'stock')")
	// Another key column: the change table grows, and the trigger function is replaced.
	bob.exec("select freshet.create_sink('by_sku', 'stock', key => 'sku:${sku}')")
	e.start()
	bob.exec("insert into stock values (1, 'a'), (2, 'b'); update stock set sku = 'c' where id = 2")
	e.settle()
	e.admin().inStep("stock:*", "select 'stock:' || id, to_jsonb(s)::text from stock s")
	e.admin().inStep("sku:*", "select 'sku:' || sku, to_jsonb(s)::text from stock s")
	bob.exec("select freshet.drop_sink('stock')")
	ada.exec("select freshet.drop_sink('by_sku')")
	e.settle()
}

// Whoever creates the sink, the trigger runs as the owner of the table: nobody gets a
// superuser's rights through a type that he has made.
func TestTriggersRunAsTheOwnerOfTheTable(t *testing.T) {
	e := newEnv(t)
	e.exec("create table who (role name)")
	e.exec("create type pair as (a int, b int)")
	e.exec(`create function told(pair) returns text language plpgsql as $$
		begin insert into public.who values (current_user); return $1.a || '-' || $1.b; end $$`)
	e.exec("create cast (pair as text) with function told(pair)")
	e.exec("create table pairs (k pair primary key, n int)")
	e.admin().exec("select freshet.create_sink('pairs', 'pairs', key => 'pairs:${k}')")
	app := e.login("app")
	e.exec("grant select, insert, update on pairs to " + app.role())
	app.exec("insert into pairs values ((1, 2), 1), ((1, 3), 1); update pairs set n = 2")
	owner := one[string](e, "select current_user")
	for _, role := range e.list("select distinct role::text from who") {
		if role != owner {
			t.Errorf("the cast of a key column ran as %s, want %s", role, owner)
		}
	}
	if n := one[int](e, "select count(*) from who"); n == 0 {
		t.Error("the cast did not run: this test shows nothing")
	}
	if n := one[int](e, "select count(*) from freshet.capture_gaps"); n != 0 {
		t.Errorf("%d gaps: %s", n, e.list("select message from freshet.capture_gaps"))
	}
}

func TestGrantsThatTheCreatorMayNotMakeAreNamed(t *testing.T) {
	e := newEnv(t)
	e.exec("create schema billing")
	tenant := e.login("tenant", "freshet_admin")
	e.exec("grant usage, create on schema billing to " + tenant.role())
	tenant.exec("create table billing.invoices (id bigint primary key, total numeric)")
	tenant.exec("select freshet.create_sink('invoices', 'billing.invoices')")
	owner := one[string](e, "select current_user")
	want := fmt.Sprintf("As %s run: grant usage on schema billing to freshet_worker;", owner)
	if !strings.Contains(strings.Join(tenant.notices, "\n"), want) {
		t.Fatalf("notices %q, want %q", tenant.notices, want)
	}
	e.workerURL = e.login("worker", "freshet_worker").Config().ConnString()
	e.start()
	e.await("the missing grant shows in status", func() bool {
		return one[bool](e, "select coalesce(last_error like '%permission denied for schema billing%', false) from freshet.status")
	})
	e.exec("grant usage on schema billing to freshet_worker")
	tenant.exec("insert into billing.invoices values (1, 9.50)")
	e.settle()
	e.admin().inStep("billing.invoices:*", "select 'billing.invoices:' || id, to_jsonb(i)::text from billing.invoices i")
}

// An expression calls functions with the rights of the worker that evaluates it.
func TestWorkersMayCallWhatAnExpressionCalls(t *testing.T) {
	e := newEnv(t)
	e.exec(`create schema util; create schema base;
		create function util.f(bigint) returns text language sql immutable as $$ select 'f' || $1 $$;
		create function hidden(bigint) returns bigint language sql immutable as $$ select $1 $$;
		create function seen(bigint, bigint default hidden(0)) returns bigint language sql immutable as $$ select $1 + $2 $$;
		create function deep(bigint) returns bigint language sql immutable as $$ select $1 $$;
		create aggregate total(bigint) (sfunc = int8pl, stype = bigint);
		create type base.mood as enum ('good', 'bad');
		create view lists as select deep(1) as one;
		create table users (id bigint primary key, name text, owner bigint);
		create index on users (owner);
		revoke all on function hidden(bigint), deep(bigint), total(bigint) from public`)
	e.exec("insert into users select g, 'n' || g, g % 3 from generate_series(1, 9) g")
	e.exec("select freshet.create_sink('f', 'users', key => 'f:${id}', filter => 'util.f(id) <> ''f3''')")
	e.exec("select freshet.create_sink('h', 'users', key => 'h:${id}', value => 'hidden(id) || name')")
	e.exec("select freshet.create_sink('t', 'users', key => 't:${owner}', value => 'total(id)')")
	e.exec("select freshet.create_sink('m', 'users', key => 'm:${id}', value => '''good''::base.mood')")
	e.exec("select freshet.create_sink('s', 'users', key => 's:${id}')")
	e.start()
	e.lastBackfill("s")
	e.exec("select freshet.alter_sink('s', value => 'seen(id) + (select one from lists)', accept_drift => true)")
	inStep := func() {
		t.Helper()
		e.follow("f:*", "select 'f:' || id, to_jsonb(u)::text from users u where id <> 3")
		e.follow("h:*", "select 'h:' || id, id || name from users")
		e.follow("t:*", "select 't:' || owner, sum(id)::text from users group by owner")
		e.follow("m:*", "select 'm:' || id, 'good' from users")
		e.follow("s:*", "select 's:' || id, (id + 1)::text from users")
	}
	inStep()
	e.exec("update users set name = name || 'x', owner = owner + 1; insert into users values (10, 'ten', 10)")
	inStep()

	// Of others it is said who has to run what.
	tenant := e.login("tenant", "freshet_admin")
	e.exec("create function lent(bigint) returns bigint language sql immutable as $$ select $1 $$; revoke all on function lent(bigint) from public; create schema lent; create function lent.f(bigint) returns bigint language sql immutable as $$ select $1 $$")
	e.exec("grant execute on function lent(bigint) to " + tenant.role() + "; grant usage on schema lent to " + tenant.role() + "; grant create on schema public to " + tenant.role())
	tenant.exec("create table theirs (id bigint primary key)")
	tenant.exec("select freshet.create_sink('theirs', 'theirs', value => 'lent(id) + lent.f(id)')")
	owner := one[string](e, "select current_user")
	for _, want := range []string{"value: the workers may not call public.lent(bigint) yet", "As " + owner + " run: grant execute on function public.lent(bigint) to freshet_worker;",
		"As " + owner + " run: grant usage on schema lent to freshet_worker;"} {
		if !strings.Contains(strings.Join(tenant.notices, "\n"), want) {
			t.Errorf("notices %q, want %q", tenant.notices, want)
		}
	}
}

// Where the installer may not make roles, it alone uses Freshet; somebody else can make
// them later.
func TestInstallWithoutTheRightToMakeRoles(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, nil)
	url, err := server.CreateDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	e := (&env{t: t, redisURL: serverstest.Redis(t), superURL: url, super: newPool(t, url)}).admin()
	e.redis = newRedis(t, e.redisURL)
	installer := e.login("installer")
	e.exec("alter database shop owner to " + installer.role())
	e.workerURL = installer.Config().ConnString()

	_, stderr, status := e.freshet("migrate")
	if status != 0 || !strings.Contains(stderr, "only "+installer.role()+" can use Freshet") {
		t.Fatalf("migrate: status %d, %s", status, stderr)
	}
	installer.exec(usersTable)
	installer.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	installer.exec("insert into users (id, name) values (1, 'Ada')")
	e.settle()
	e.inStep("users:*", usersPromise)
	stop()

	e.exec("create role freshet_admin; create role freshet_worker")
	installer.exec("select freshet.grant_roles()")
	e.workerURL = e.login("worker", "freshet_worker").Config().ConnString()
	e.start()
	installer.exec("update users set name = 'Grace'")
	e.settle()
	e.inStep("users:*", usersPromise)
}

// Whoever may use the schema can have a table of his own call the trigger function of a
// source, with columns whose casts are functions of his: none of them runs.
func TestTriggerFunctionsLookAtNoRowOfAnotherTable(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table events (id bigint, day date, primary key (id, day)) partition by range (day)")
	e.exec("select freshet.create_sink('users', 'users'); select freshet.create_sink('events', 'events')")
	w := e.login("worker", "freshet_worker")
	w.exec(`create type pg_temp.bait as (a int);
		create function pg_temp.bite(pg_temp.bait) returns bigint language plpgsql as $$
			begin raise notice 'ran as %', current_user; return 1; end $$;
		create cast (pg_temp.bait as bigint) with function pg_temp.bite(pg_temp.bait) as assignment;
		create temp table statements (id pg_temp.bait);
		create trigger t after insert on statements referencing new table as freshet_new
			for each statement execute function freshet.capture_1();
		create temp table rows (id pg_temp.bait, day date);
		create trigger t after insert on rows for each row execute function freshet.capture_2()`)
	// Neither does it help to say that the trigger has run before.
	w.exec(`select set_config('freshet.guarded_1_' || 'statements'::regclass::oid,
			pg_relation_filenode('statements') || pg_describe_object(1259, (select relid from freshet.source where id = 1), 1), false);
		select set_config('freshet.guarded_2_' || 'rows'::regclass::oid, pg_relation_filenode('rows')
			|| pg_describe_object(1259, (select relid from freshet.source where id = 2), 1)
			|| pg_describe_object(1259, (select relid from freshet.source where id = 2), 2), false);
		insert into statements values (row(1)::pg_temp.bait);
		insert into rows values (row(1)::pg_temp.bait, '2026-01-01')`)
	w.exec("discard temp")
	if len(w.notices) > 0 {
		t.Errorf("a cast ran: %q", w.notices)
	}
	if n := one[int](e, "select count(*) from freshet.capture_gaps where message like '%is not the source'"); n != 2 {
		t.Errorf("%d gaps: %s", n, e.list("select message from freshet.capture_gaps"))
	}
}

// The capture of a table that was given to somebody else goes on; the error says how the
// new owner gets hold of it.
func TestSourceIsGivenToAnotherOwner(t *testing.T) {
	e := newEnv(t)
	e.exec("grant create on schema public to public")
	before, after := e.login("before", "freshet_admin"), e.login("after", "freshet_admin")
	before.exec("create table stock (id bigint primary key, sku text not null unique)")
	before.exec("select freshet.create_sink('stock', 'stock')")
	e.admin().exec("alter table stock owner to " + after.role())
	after.exec("insert into stock values (1, 'a')")
	after.refused(denied, "select freshet.make_capture(1);", "select freshet.create_sink('by_sku', 'stock', key => 'sku:${sku}')")
	after.refused(denied, "select freshet.make_capture(1);", "select freshet.drop_sink('stock')")
	e.admin().exec("select freshet.make_capture(1)")
	after.exec("select freshet.create_sink('by_sku', 'stock', key => 'sku:${sku}')")
	e.start()
	after.exec("insert into stock values (2, 'b'); update stock set sku = 'c' where id = 1")
	e.settle()
	e.admin().inStep("stock:*", "select 'stock:' || id, to_jsonb(s)::text from stock s")
	e.admin().inStep("sku:*", "select 'sku:' || sku, to_jsonb(s)::text from stock s")
	if n := one[int](e, "select count(*) from freshet.capture_gaps"); n != 0 {
		t.Errorf("%d gaps: %s", n, e.list("select message from freshet.capture_gaps"))
	}
	after.exec("select freshet.drop_sink('by_sku')")
	after.exec("select freshet.drop_sink('stock')")
	e.settle()
}

// An owner who may not use Freshet any more can put no gap on record either. His statements
// succeed; workers take note of it, say what helps, and look at everything afterwards.
func TestOwnerLosesTheRightToUseFreshet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		takes string
		heir  bool
		works bool // capture itself does, but nobody can look after it
		helps string
	}{
		{"revoked", "revoke freshet_admin from OWNER", false, false, "grant freshet_admin to OWNER"},
		{"reassigned", "reassign owned by OWNER to OTHER", true, false, "grant freshet_admin to OTHER"},
		{"given", "alter table users owner to OTHER", true, true, "grant freshet_admin to OTHER; select freshet.make_capture(1)"},
		{"given to who does not want it", "alter table users owner to OTHER; grant usage on schema freshet to OTHER", true, true, "select freshet.make_capture(1)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec("grant create on schema public to public")
			owner, other := e.login("owner", "freshet_admin"), e.login("other")
			owner.exec(usersTable)
			owner.exec("insert into users (id, name) select g, 'before' from generate_series(1, 20) g")
			owner.exec("select freshet.create_sink('users', 'users')")
			e.start()
			e.settle()
			admin := e.admin()
			named := strings.NewReplacer("OWNER", owner.role(), "OTHER", other.role())
			admin.exec(named.Replace(c.takes))
			want := named.Replace(c.helps)
			if c.heir {
				owner = other
			}
			owner.exec("insert into users (id, name) values (21, 'unseen')")
			owner.exec("begin; select pg_sleep(0.01); update users set name = 'unseen' where id = 1; update users set name = 'unseen' where id = 2; commit")
			if said := strings.Contains(strings.Join(owner.notices, " "), "could not be recorded as a gap either"); said == c.works {
				t.Errorf("notices %q", owner.notices)
			}
			e.await("somebody is told what to run", func() bool {
				return strings.Contains(one[string](admin, "select coalesce(mend_error, '') from freshet.source"), want)
			})
			admin.exec(want)
			e.await("it is mended", func() bool {
				return one[bool](admin, "select mend_error is null and not freshet.is_altered(id) from freshet.source")
			})
			e.settle()
			admin.inStep("users:*", usersPromise)
			owner.exec("update users set name = 'after'")
			e.settle()
			admin.inStep("users:*", usersPromise)
			if gaps := admin.gaps(); len(gaps) > 0 {
				t.Errorf("gaps: %q", gaps)
			}
		})
	}
}

// A right that is taken and given back while nobody looks leaves the catalog as it was.
func TestOwnerMayNotUseFreshetForAWhile(t *testing.T) {
	e := newEnv(t)
	e.exec("grant create on schema public to public")
	owner := e.login("owner", "freshet_admin")
	owner.exec(usersTable)
	owner.exec("insert into users (id, name) select g, 'before' from generate_series(1, 20) g")
	owner.exec("select freshet.create_sink('users', 'users')")
	e.admin().exec("create table others (id bigint primary key)")
	e.admin().exec("select freshet.create_sink('others', 'others')")
	stop := e.start()
	e.settle()
	e.mended()
	stop()
	e.admin().exec("revoke freshet_admin from " + owner.role())
	owner.exec("update users set name = 'unseen' where id <= 10")
	owner.exec("begin; select pg_sleep(0.01); delete from users where id = 11; delete from users where id = 12; commit")
	e.admin().exec("grant freshet_admin to " + owner.role())
	e.start()
	e.admin().follow("users:*", usersPromise)
	if n := e.rewarms(); n != 1 {
		t.Errorf("%d re-warms: of the source that missed changes there is one, and of the other none", n)
	}
}

// What goes wrong behind the first write of a transaction has no exception block around it.
func TestRightRevokedWithinATransactionNeverFailsTheApplication(t *testing.T) {
	e := newEnv(t)
	e.exec("grant create on schema public to public")
	owner := e.login("owner", "freshet_admin")
	owner.exec(usersTable)
	owner.exec("select freshet.create_sink('users', 'users', backfill => false)")
	owner.exec("begin")
	owner.exec("select pg_sleep(0.01)")
	owner.exec("insert into users (id, name) values (1, 'captured')")
	e.admin().exec("revoke freshet_admin from " + owner.role())
	for _, sql := range []string{
		"insert into users (id, name) values (2, 'unseen')", "insert into users (id, name) values (3, 'unseen')",
		"update users set name = 'x' where id = 1", "update users set name = 'y' where id = 1", "delete from users where id = 2", "commit",
	} {
		owner.exec(sql)
	}
}

// Who may grant it gives the owner himself what capture needs: it does not end with his
// membership.
func TestCaptureOutlivesItsOwnersMembership(t *testing.T) {
	e := newEnv(t).admin()
	e.exec("grant create on schema public to public")
	owner := e.login("owner", "freshet_admin")
	owner.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.exec("revoke freshet_admin from " + owner.role())
	owner.exec("insert into users (id, name) values (1, 'seen')")
	e.settle()
	e.inStep("users:*", usersPromise)
	if gaps := e.gaps(); len(gaps) > 0 || len(owner.notices) > 0 {
		t.Errorf("gaps %q, notices %q", gaps, owner.notices)
	}
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms", n)
	}
}

// A superuser's keeper empties the change tables of an owner who may make nothing in the schema. What he
// could put on them would run with a superuser's rights.
func TestOwnerWhoMayNotUseFreshetOwnsNoChangeTable(t *testing.T) {
	e := newEnv(t)
	admin := e.admin()
	e.exec("grant create on schema public to public")
	owner, heir := e.login("owner"), e.login("heir")
	owner.exec(counters)
	owner.exec("insert into counters (id) select g from generate_series(1, 100) g")
	owner.exec("create function own() returns trigger language plpgsql as $$ begin raise notice 'as %', current_user; return null; end $$")
	admin.exec("select freshet.create_sink('counters', 'counters')")
	admin.hurry()
	e.start()
	rotated := func(writer *session) {
		t.Helper()
		floor := admin.floor()
		admin.await("a segment is emptied, and one more was made", func() bool {
			writer.exec("update counters set version = version + 1")
			// Workers look every few seconds.
			if _, err := e.super.Exec(t.Context(), "select freshet.rotate(1)"); err != nil && !pg.IsLocked(err) {
				t.Fatal(err)
			}
			return admin.floor() != floor && one[int](admin, "select max(number) from freshet.segment") > 2
		})
	}
	rotated(owner)
	for _, relation := range admin.list("select relname::text from pg_class where relnamespace = 'freshet'::regnamespace and relkind = 'r' and relname ~ '^changes_1'") {
		owner.refused(denied, "permission denied", "create trigger own before truncate on freshet."+relation+" for each statement execute function own()")
		owner.refused(denied, "must be owner", "alter table freshet."+relation+" enable row level security")
		owner.refused(denied, "must be owner", "alter sequence freshet.changes_1_unrecorded start 2")
	}
	e.settle()
	admin.inStep("counters:*", countersPromise("counters"))
	if gaps := admin.gaps(); len(gaps) > 0 || len(owner.notices) > 0 {
		t.Errorf("gaps %q, notices %q", gaps, owner.notices)
	}
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms", n)
	}

	// Whoever gets the table captures as before, and the one who had it writes no changes any more.
	admin.exec("alter table counters owner to " + heir.role())
	heir.exec("update counters set version = version + 1")
	e.mended()
	owner.refused(denied, "permission denied", "insert into freshet.changes_1_1 (op) values ('t')")
	e.settle()
	admin.inStep("counters:*", countersPromise("counters"))
	if gaps := admin.gaps(); len(gaps) > 0 {
		t.Errorf("gaps %q", gaps)
	}
	// Reassigned it takes no right along; that is mended too.
	other := e.login("other")
	admin.exec("reassign owned by " + heir.role() + " to " + other.role())
	other.exec("update counters set version = version + 1 where id = 1")
	e.mended()
	// Who may use Freshet later is told how to get hold of it.
	admin.exec("grant freshet_admin to " + other.role())
	const more = "select freshet.create_sink('more', 'counters', key => 'more:${version}', value => 'count(*)')"
	other.exec("create index on counters (version)")
	other.refused(denied, "select freshet.make_capture(1);", more)
	admin.exec("select freshet.make_capture(1)")
	other.exec(more)
	e.mended()
	rotated(other)
	e.settle()
	admin.inStep("counters:*", countersPromise("counters"))
	other.exec("select freshet.drop_sink('more'); select freshet.drop_sink('counters')")
	e.settle()
}

// Whatever somebody has put on a segment is not run by who empties it. The rest of rotation goes on.
func TestSegmentThatHasATriggerIsNotEmptied(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 100) g")
	e.exec("create function planted() returns trigger language plpgsql as $$ begin raise exception 'it ran'; end $$")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("create trigger planted before truncate on freshet.changes_1_1 for each statement execute function planted()")
	e.start()
	e.mended()
	e.hurry()
	said := func() string {
		e.exec("update counters set version = version + 1")
		_, err := e.db.Exec(t.Context(), "select freshet.rotate(1)")
		if err == nil || pg.IsLocked(err) {
			return ""
		}
		return err.Error()
	}
	e.await("it is refused", func() bool {
		text := said()
		if text != "" && !strings.Contains(text, "freshet.changes_1_1 is not emptied, for it has what Freshet has not made: trigger planted") {
			t.Fatal(text)
		}
		return text != ""
	})
	floor := e.floor()
	e.await("others are emptied", func() bool { _ = said(); return e.floor() != floor })
	e.exec("drop trigger planted on freshet.changes_1_1")
	e.await("it is emptied", func() bool {
		_ = said()
		return one[int](e, "select pg_relation_size('freshet.changes_1_1')") == 0 || one[int](e, "select segment from freshet.source") == 1
	})
}

func TestRightsThatOnlyLookLikeOwnershipAreRefused(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	owner := one[string](e, "select current_user")
	heir := e.login("heir", "freshet_admin")
	// A member that has the owner's rights only after SET ROLE.
	e.admin().exec(fmt.Sprintf("create role %[1]s_group; grant %[2]s to %[1]s_group; alter role %[1]s_group noinherit; grant %[1]s_group to %[1]s", heir.role(), owner))
	t.Cleanup(func() { _, _ = e.super.Exec(context.WithoutCancel(t.Context()), "drop role "+heir.role()+"_group") })
	if !e.seesAll() {
		heir.refused(denied, "source: only the owner of", "select freshet.create_sink('users', 'users')")
	}
	// A partition of somebody else's.
	e.exec("create table parts (id bigint primary key) partition by range (id)")
	e.exec("create table part partition of parts for values from (1) to (10)")
	e.admin().exec("alter table parts owner to " + heir.role())
	heir.refused(denied, "source: the partition public.part of public.parts belongs to", "select freshet.create_sink('parts', 'parts')")
}

// Who installs need not own the sources: he migrates again, and uninstalls, all the same.
func TestInstallerWhoOwnsNoSource(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, nil)
	url, err := server.CreateDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	e := (&env{t: t, redisURL: serverstest.Redis(t), superURL: url, super: newPool(t, url)}).admin()
	e.redis = newRedis(t, e.redisURL)
	installer := e.login("installer")
	e.exec("alter role " + installer.role() + " createrole; alter database shop owner to " + installer.role())
	as := *e
	as.workerURL = installer.Config().ConnString()
	migrate := func() {
		t.Helper()
		if _, stderr, status := as.freshet("migrate"); status != 0 {
			t.Fatalf("migrate: status %d, %s", status, stderr)
		}
	}
	migrate()
	tenant := e.login("tenant", "freshet_admin")
	e.exec("create schema app authorization " + tenant.role())
	tenant.exec("create table app.notes (id bigint primary key); create function app.twice(bigint) returns bigint language sql immutable as 'select 2 * $1'; revoke all on function app.twice(bigint) from public")
	tenant.exec("select freshet.create_sink('notes', 'app.notes', value => 'app.twice(id)')")
	migrate()
	stdout, stderr, status := as.freshet("uninstall")
	if status != 0 {
		t.Fatalf("uninstall: status %d, %s", status, stderr)
	}
	for _, statement := range []string{"revoke all on table app.notes from freshet_worker", "revoke all on function app.twice(bigint) from freshet_worker", "revoke all on schema app from freshet_worker"} {
		if !strings.Contains(stdout, statement+";") {
			t.Errorf("uninstall says %s; want %s", stdout, statement)
		}
		tenant.exec(statement)
	}
	if n := one[int](e, "select count(*) from pg_namespace where nspname = 'freshet'"); n != 0 {
		t.Error("the schema is there still")
	}
}
