package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// bare is an env whose database has no Freshet.
func bare(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	url := serverstest.Postgres(t)
	e := &env{t: t, redisURL: serverstest.Redis(t), superURL: url, super: newPool(t, url)}
	return e.admin()
}

// catalog lists what a database is made of, one line for each object.
func (e *env) catalog() []string {
	e.t.Helper()
	rows, err := e.db.Query(e.t.Context(), `
		select 'relation ' || oid || ' ' || relnamespace || ' ' || relname || ' ' || relkind::text from pg_class
		union all select 'function ' || oid || ' ' || pronamespace || ' ' || proname from pg_proc
		union all select 'trigger ' || oid || ' ' || tgrelid || ' ' || tgname || ' ' || tgenabled::text from pg_trigger
		union all select 'type ' || oid || ' ' || typnamespace || ' ' || typname from pg_type
		union all select 'schema ' || oid || ' ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp_'
		union all select 'event trigger ' || oid || ' ' || evtname from pg_event_trigger
		union all select 'constraint ' || oid || ' ' || conname from pg_constraint
		union all select 'default ' || oid || ' ' || adrelid from pg_attrdef
		union all select 'rule ' || oid || ' ' || rulename from pg_rewrite
		union all select 'policy ' || oid || ' ' || polname from pg_policy
		union all select 'extension ' || oid || ' ' || extname from pg_extension
		union all select 'operator ' || oid || ' ' || oprname from pg_operator
		union all select 'cast ' || oid from pg_cast
		union all select 'publication ' || oid || ' ' || pubname from pg_publication
		union all select 'setting ' || setdatabase || ' ' || array_to_string(setconfig, ',') from pg_db_role_setting
			where setdatabase = (select oid from pg_database where datname = current_database())
		union all select 'comment ' || objoid || ' ' || description from pg_description
		union all select 'default right ' || oid from pg_default_acl
		order by 1`)
	if err != nil {
		e.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

// differs shows what is in one list and not in the other.
func differs(before, after []string) string {
	var lines []string
	for _, line := range before {
		if _, found := slices.BinarySearch(after, line); !found {
			lines = append(lines, "gone: "+line)
		}
	}
	for _, line := range after {
		if _, found := slices.BinarySearch(before, line); !found {
			lines = append(lines, "new:  "+line)
		}
	}
	return strings.Join(lines[:min(len(lines), 20)], "\n")
}

// sorted is a catalog in the order that differs looks in.
func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func TestMigratingAgainChangesNothing(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	installation := one[string](e, "select id from freshet.installation")
	versions := one[int](e, "select count(*) from freshet.schema_version")

	// Also while a worker works and the application writes.
	for n := range 3 {
		e.migrate()
		e.exec("update users set name = format('round %s', $1::int) where id % 3 = 0", n)
	}
	p := e.admin().process("migrate")
	if status := p.wait(patience); status != 0 {
		t.Errorf("freshet migrate on an installed database: exit status %d", status)
	}
	if !strings.Contains(p.stdout.String(), "installed") {
		t.Errorf("freshet migrate said %q", p.stdout.String())
	}

	if now := one[string](e, "select id from freshet.installation"); now != installation {
		t.Errorf("the installation id was %s and is %s", installation, now)
	}
	if now := one[int](e, "select count(*) from freshet.schema_version"); now != versions {
		t.Errorf("there were %d migrations and are %d", versions, now)
	}
	e.settle()
	e.inStep("users:*", usersPromise)
	if gaps := one[int](e, "select count(*) from freshet.capture_gaps"); gaps != 0 {
		t.Errorf("%d changes were not captured", gaps)
	}
}

// What a migration replaces looks as what the first one made.
func TestMigratingAgainLeavesTheSameObjects(t *testing.T) {
	e := newEnv(t)
	names := func() []string {
		rows, err := e.db.Query(t.Context(), `
			select c.relkind::text || ' ' || c.relname || ' ' || coalesce(c.relacl::text, '') || ' ' || coalesce(pg_get_viewdef(case c.relkind when 'v' then c.oid end), '')
			from pg_class c where c.relnamespace = 'freshet'::regnamespace
			union all
			select p.oid::regprocedure || ' ' || coalesce(p.proacl::text, '') || md5(p.prosrc) || coalesce(p.proconfig::text, '') || coalesce(obj_description(p.oid, 'pg_proc'), '')
			from pg_proc p where p.pronamespace = 'freshet'::regnamespace`)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return sorted(list)
	}
	before := names()
	e.migrate()
	if diff := differs(before, names()); diff != "" {
		t.Errorf("the second migration made a difference:\n%s", diff)
	}
}

func TestConcurrentMigrationsHaveOneOutcome(t *testing.T) {
	e := bare(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	const migrations = 20
	errs := make([]error, migrations)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for n := range migrations {
		wg.Go(func() {
			<-begin
			if n%4 == 3 {
				errs[n] = e.script(string(text))
				return
			}
			pool, err := pgxpool.New(t.Context(), e.databaseURL)
			if err != nil {
				errs[n] = err
				return
			}
			defer pool.Close()
			errs[n] = install.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler))
		})
	}
	close(begin)
	wg.Wait()
	for n, err := range errs {
		if err != nil {
			t.Errorf("migration %d: %v", n, err)
		}
	}
	alone := newEnvOn(t, serverstest.Postgres(t), e.redisURL)
	if want, got := dumpSchema(t, alone.databaseURL), dumpSchema(t, e.databaseURL); !slices.Equal(want, got) {
		t.Errorf("many migrations at once made what one does not:\n%s", firstDifference(want, got))
	}
	if n := one[int](e, "select count(*) from freshet.installation"); n != 1 {
		t.Errorf("there are %d installations", n)
	}
	if n := one[int](e, "select count(*) - count(distinct version) from freshet.schema_version"); n != 0 {
		t.Errorf("%d migrations ran twice", n)
	}
	if n := one[int](e, "select count(*) - count(distinct proname) from pg_proc where pronamespace = 'freshet'::regnamespace and proname <> 'refresh'"); n != 0 {
		t.Errorf("%d functions have two signatures", n) // refresh has a twin for numbers
	}
	// And it works.
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("insert into users (id, name) values (1, 'one')")
	if gaps := one[int](e, "select count(*) from freshet.capture_gaps"); gaps != 0 {
		t.Errorf("%d changes were not captured", gaps)
	}
}

// script runs the text as a program does that has no psql: whole, on a connection of
// its own.
func (e *env) script(text string) error {
	conn, err := pgconn.Connect(e.t.Context(), e.databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return conn.Exec(e.t.Context(), text).Close()
}

func TestDroppingTheSchemaLeavesNothing(t *testing.T) {
	e := bare(t)
	e.exec(usersTable)
	e.exec("create schema billing; create table billing.invoices (tenant_id int, id int, total numeric, primary key (tenant_id, id))")
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	before := sorted(e.catalog())

	e.migrate()
	e.exec("select freshet.create_sink('users', 'users', filter => 'active')")
	e.exec("select freshet.create_sink('names', 'users', key => 'names:${id}', columns => '{name}')")
	e.exec("select freshet.create_sink('invoices', 'billing.invoices')")
	stop := e.start()
	e.exec("insert into users (id, name) select g, 'user' from generate_series(101, 200) g")
	e.exec("update users set name = 'changed', id = id + 1000")
	e.exec("insert into billing.invoices values (1, 1, 10)")
	e.exec("delete from users where id % 2 = 0")
	e.exec("truncate billing.invoices")
	e.settle()
	e.exec("select freshet.drop_sink('names')")
	e.exec("select freshet.backfill('users')")
	e.settle()
	stop()

	e.exec("drop schema freshet cascade")
	if diff := differs(before, sorted(e.catalog())); diff != "" {
		t.Errorf("drop schema freshet cascade left:\n%s", diff)
	}
	// The application does not notice.
	e.exec("insert into users (id, name) values (1, 'after')")
	e.exec("update users set id = id + 1; delete from users; truncate users")
	// And it can be installed again.
	e.migrate()
	e.exec("select freshet.create_sink('users', 'users')")
}

// Writers come to the change table with the source in hand. Neither is in a deadlock with them who takes
// all of it away, nor do they queue for long.
func TestUninstallBesideWriters(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	e.exec("create table parts (id int primary key, n int) partition by range (id); create table parts_all partition of parts default")
	e.exec("insert into parts select g, 0 from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users'); select freshet.create_sink('parts', 'parts')")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	write := func(id int, conn *pgxpool.Conn) error {
		return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			for range 5 {
				for _, sql := range []string{"update users set name = name || '.' where id % 50 = $1", "update parts set n = n + 1 where id = $1", "update parts_all set n = n + 1 where id = $1 + 50"} {
					if _, err := tx.Exec(t.Context(), sql, id); err != nil {
						return fmt.Errorf("%s: %w", sql, err)
					}
				}
			}
			return nil
		})
	}
	var written [4]atomic.Int64
	for id := range written {
		conn := e.session()
		// An attempt lasts 200 ms.
		if _, err := conn.Exec(t.Context(), "set lock_timeout = '900ms'"); err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := write(id, conn); err != nil {
					t.Error(err)
					return
				}
				written[id].Add(1)
			}
		})
	}
	e.await("all write", func() bool {
		for id := range written {
			if written[id].Load() == 0 && !t.Failed() {
				return false
			}
		}
		return true
	})
	removed, _, err := install.Uninstall(t.Context(), e.super)
	if err != nil || !removed {
		t.Errorf("uninstall: %v, %v", removed, err)
	}
	cancel()
	writers.Wait()
	if n := one[int](e, "select count(*) from pg_trigger where tgname ~ '^freshet'"); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
}

// What others may do with the public views, and what they have made of them, is theirs.
func TestGrantsOnViewsOutliveAMigration(t *testing.T) {
	e := newEnv(t).admin()
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	monitor, other := e.login("monitor"), e.login("other")
	e.exec("grant usage on schema freshet to " + monitor.role() + ", " + other.role())
	e.exec("grant select on freshet.sinks to " + monitor.role() + ", " + other.role() + "; create view mine as select sink, state from freshet.sinks")
	// As an earlier version may have had it.
	e.exec("drop view freshet.failures; create view freshet.failures as select 1 as one, text 'x' as key")
	e.exec("grant select on freshet.failures to " + monitor.role() + " with grant option; grant select (key, one) on freshet.failures to " + other.role())
	e.exec("create view failed as select one from freshet.failures")
	var pgErr *pgconn.PgError
	if err := e.script(string(text)); !errors.As(err, &pgErr) || !strings.Contains(pgErr.Message, "freshet.failures gets other columns") || !strings.Contains(pgErr.Detail, "failed depends on") {
		t.Errorf("with a view on one that gets other columns: %v", err)
	}
	e.exec("drop view failed")
	for n := range 3 {
		if n == 1 {
			if err := e.script(string(text)); err != nil {
				t.Fatal(err)
			}
		} else {
			e.migrate()
		}
		for _, s := range []*session{monitor, other} {
			s.exec("select from freshet.sinks; select key from freshet.failures")
		}
		monitor.exec("select attempts from freshet.failures")
		if passes := one[bool](e, "select has_table_privilege($1, 'freshet.failures', 'select with grant option')", monitor.role()); !passes {
			t.Error("the right to grant it is gone")
		}
		other.refused(denied, "permission denied", "select attempts from freshet.failures")
		if sinks := e.list("select sink from mine"); !slices.Equal(sinks, []string{"users"}) {
			t.Errorf("sinks %q", sinks)
		}
	}
}

// One who hangs is named, and whoever waits goes on when he is gone.
func TestMigrationSaysWhomItWaitsFor(t *testing.T) {
	e := bare(t)
	blocker := e.begin()
	e.in(blocker, "select pg_advisory_xact_lock(1181905010)")
	var pid int
	if err := blocker.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	p := e.process("migrate")
	e.await("it is told", func() bool { return strings.Contains(p.stderr.String(), fmt.Sprint("pid=", pid)) })
	e.commit(blocker)
	if status := p.wait(patience); status != 0 {
		t.Errorf("exit status %d, %s", status, p.stderr.String())
	}
}

// A pooler that gives each transaction a connection of its own keeps those connections.
func TestMigrationLeavesNoLockBehind(t *testing.T) {
	e := bare(t)
	e.migrate()
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "pg_advisory_lock(") {
		t.Error("install.sql takes a lock of the session")
	}
	// The session goes on: as those of a pooler do.
	conn := e.session()
	if _, err := conn.Conn().PgConn().Exec(t.Context(), string(text)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if n := one[int](e, "select count(*) from pg_locks where locktype = 'advisory' and objid = 1181905010 and database = (select oid from pg_database where datname = current_database())"); n != 0 {
		t.Errorf("%d locks", n)
	}
}

// Who was given the schema may not be allowed to make one.
func TestOwnerOfTheSchemaNeedsNoRightOnTheDatabase(t *testing.T) {
	e := bare(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	installer := e.login("installer")
	e.exec("create schema freshet authorization " + installer.role())
	installer.refused(denied, "permission denied for database", "create schema other")
	as := *e
	as.databaseURL = installer.Config().ConnString()
	for range 2 {
		pool := newPool(t, as.databaseURL)
		if err := install.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if err := as.script(string(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a restore without rows leaves is neither installed nor not.
func TestSchemaWithoutRowsIsNotMigrated(t *testing.T) {
	e := newEnv(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	admin := e.admin()
	admin.exec("truncate freshet.schema_version, freshet.river_migration; truncate freshet.installation cascade")
	admin.refusesToRun("schema freshet has tables and no version, as after a restore without rows: drop schema freshet cascade", "migrate")
	var pgErr *pgconn.PgError
	if err := admin.script(string(text)); !errors.As(err, &pgErr) || !strings.Contains(pgErr.Message, "no version") || !strings.Contains(pgErr.Hint, "drop schema freshet cascade") {
		t.Errorf("install.sql: %v", err)
	}
	admin.exec("drop schema freshet cascade")
	admin.migrate()
	if err := admin.script(string(text)); err != nil {
		t.Error(err)
	}
}

// installed is a database with every kind of object that Freshet makes in it.
func installed(t *testing.T) *env {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table prices (code numeric primary key, name text)")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('prices', 'prices')")
	return e
}

// list reads lines that have to be none.
func (e *env) list(sql string) []string {
	e.t.Helper()
	rows, err := e.db.Query(e.t.Context(), sql)
	if err != nil {
		e.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

func TestPublicMayNothingButFireTriggers(t *testing.T) {
	e := installed(t)
	for what, sql := range map[string]string{
		"schema": `select nspname || ': ' || privilege_type from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
			where nspname = 'freshet' and grantee = 0`,
		"relation": `select relname || ': ' || privilege_type
			from pg_class, aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)))
			where relnamespace = 'freshet'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S', 'f') and grantee = 0`,
		"column": `select relname || '.' || attname || ': ' || privilege_type
			from pg_attribute join pg_class c on c.oid = attrelid, aclexplode(attacl)
			where relnamespace = 'freshet'::regnamespace and grantee = 0`,
		"function": `select oid::regprocedure || ': ' || privilege_type from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
			where pronamespace = 'freshet'::regnamespace and grantee = 0 and prorettype <> 'trigger'::regtype`,
	} {
		for _, line := range e.list(sql) {
			t.Errorf("PUBLIC has a right on a %s: %s", what, line)
		}
	}
	// An application that creates a partition or attaches one needs this one.
	for _, line := range e.list(`select oid::regprocedure::text from pg_proc
		where pronamespace = 'freshet'::regnamespace and prorettype = 'trigger'::regtype
		  and not exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0 and privilege_type = 'EXECUTE')`) {
		t.Errorf("PUBLIC cannot execute the trigger function %s", line)
	}
}

func TestEveryFunctionPinsItsSearchPath(t *testing.T) {
	e := installed(t)
	// River's functions are River's, but a definer's rights nobody gets without.
	for _, line := range e.list(`select oid::regprocedure || case when prosecdef then ' (security definer)' else '' end from pg_proc
		where pronamespace = 'freshet'::regnamespace
		  and (proname not like 'river\_%' or prosecdef)
		  and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)`) {
		t.Errorf("search_path is not pinned: %s", line)
	}
	// The triggers of two sources and what workers mend them with, as the sources' owner, what
	// triggers call when they fail, and what workers call when a target has gone back in time.
	const definers = `select array_agg(proname || ' ' || proowner::regrole order by proname) from pg_proc
		where pronamespace = 'freshet'::regnamespace and prosecdef`
	owner, installer := one[string](e, "select current_user"), one[string](e.admin(), "select current_user")
	want := []string{"capture_1 " + owner, "capture_2 " + owner, "keep_1 " + owner, "keep_2 " + owner, "record_gap " + installer, "remove_again " + installer}
	if got := one[[]string](e, definers); !slices.Equal(got, want) {
		t.Errorf("with their owner's rights run %q, want %q", got, want)
	}
}

func TestEveryPublicObjectHasAComment(t *testing.T) {
	e := installed(t)
	for _, line := range e.list(`
		select relname from pg_class where relnamespace = 'freshet'::regnamespace and relkind = 'v' and obj_description(oid, 'pg_class') is null
		union all
		select oid::regprocedure::text from pg_proc
		where pronamespace = 'freshet'::regnamespace and proname in ('create_sink', 'drop_sink', 'forget_target', 'backfill') and obj_description(oid, 'pg_proc') is null`) {
		t.Errorf("without a comment: %s", line)
	}
}

// refusesToRun expects one clear line and a failure from commands.
func (e *env) refusesToRun(text string, commands ...string) {
	e.t.Helper()
	for _, command := range commands {
		p := e.process(command)
		status := p.wait(patience)
		said := strings.TrimSpace(p.stderr.String())
		if status == 0 || !strings.Contains(said, text) || strings.Contains(said, "\n") {
			e.t.Errorf("freshet %s: exit status %d and %q; want a failure and one line with %q", command, status, said, text)
		}
	}
}

func TestNewerSchemaStopsAnOlderBinary(t *testing.T) {
	e := newEnv(t)
	e.exec("insert into freshet.schema_version (version, name) values (9999, 'future')")
	before := sorted(e.catalog())
	e.admin().refusesToRun("version 9999", "worker", "drain", "migrate")
	if diff := differs(before, sorted(e.catalog())); diff != "" {
		t.Errorf("an older binary changed a newer schema:\n%s", diff)
	}
}

func TestOlderSchemaAsksForMigration(t *testing.T) {
	e := newEnv(t)
	e.exec("update freshet.schema_version set version = version - 1000")
	e.refusesToRun("run freshet migrate", "worker", "drain")
}

func TestDatabaseWithoutFreshetAsksForMigration(t *testing.T) {
	e := bare(t)
	before := sorted(e.catalog())
	e.refusesToRun("run freshet migrate", "worker", "drain")
	if diff := differs(before, sorted(e.catalog())); diff != "" {
		t.Errorf("it changed the database:\n%s", diff)
	}
}
