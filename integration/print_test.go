package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// schemaDump describes everything in schema freshet, a line each, in a stable order.
const schemaDump = `
select line from (
  select format('relation %s %s %s %s %s', c.relname, c.relkind, c.relpersistence, c.reloptions, c.relacl) as line
  from pg_class c where c.relnamespace = 'freshet'::regnamespace
  union all
  select format('column %s %s %s %s %s %s', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(d.adbin, d.adrelid))
  from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where c.relnamespace = 'freshet'::regnamespace and a.attnum > 0 and not a.attisdropped
  union all
  select format('index %s', pg_get_indexdef(i.indexrelid)) from pg_index i join pg_class c on c.oid = i.indrelid
  where c.relnamespace = 'freshet'::regnamespace
  union all
  select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
  where connamespace = 'freshet'::regnamespace
  union all
  select format('function %s %s', pg_get_functiondef(oid), proacl) from pg_proc where pronamespace = 'freshet'::regnamespace
  union all
  select format('view %s %s', c.relname, pg_get_viewdef(c.oid)) from pg_class c
  where c.relnamespace = 'freshet'::regnamespace and c.relkind = 'v'
  union all
  select format('comment %s %s', objoid::regprocedure, description) from pg_description where classoid = 'pg_proc'::regclass
    and exists (select from pg_proc p where p.oid = objoid and p.pronamespace = 'freshet'::regnamespace)
  union all
  select format('enum %s %s', enumtypid::regtype, enumlabel) from pg_enum
  union all
  select format('version %s %s', version, name) from freshet.schema_version
  union all
  select format('river %s %s', line, version) from freshet.river_migration
) x order by line`

func dumpSchema(t *testing.T, url string) []string {
	t.Helper()
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(t.Context(), schemaDump)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// apply runs a text with psql.
func apply(t *testing.T, url, text string) {
	t.Helper()
	if err := psql(t, url, text); err != nil {
		t.Fatal(err)
	}
}

func psql(t *testing.T, url, text string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}

func TestInstallBySQLIsInstallByMigrate(t *testing.T) {
	e := newEnv(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	byHand := serverstest.Postgres(t)
	apply(t, byHand, string(text))
	want, got := dumpSchema(t, e.superURL), dumpSchema(t, byHand)
	if w, g := strings.Join(want, "\n"), strings.Join(got, "\n"); w != g {
		t.Fatalf("migrate and install.sql differ:\n%s", firstDifference(want, got))
	}
	// Once more, over itself and over what migrate made.
	apply(t, byHand, string(text))
	apply(t, e.superURL, string(text))
	if got := dumpSchema(t, e.superURL); strings.Join(want, "\n") != strings.Join(got, "\n") {
		t.Fatalf("a second time changed something:\n%s", firstDifference(want, got))
	}

	stdout, _, status := e.freshet("migrate", "--print")
	if status != 0 || stdout != string(text) {
		t.Error("sql/install.sql is not what migrate --print says: run make generate")
	}
}

func TestInstallSQLStopsAtANewerSchema(t *testing.T) {
	e := newEnv(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	e.exec("insert into freshet.schema_version (version, name) values (9999, 'future')")
	if err := psql(t, e.superURL, string(text)); err == nil || !strings.Contains(err.Error(), "newer than this text") {
		t.Errorf("an older text on a newer schema: %v", err)
	}
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[i] + "\n---\n" + b[i]
		}
	}
	return "one has more lines than the other"
}

func TestUninstallLeavesNoTrace(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	e = e.admin()
	if _, stderr, status := e.freshet("uninstall"); status == 0 || !strings.Contains(stderr, "workers are running") {
		t.Errorf("uninstall under a running worker: status %d, %s", status, stderr)
	}
	stop()
	if _, stderr, status := e.freshet("uninstall", "--purge"); status != 0 {
		t.Fatalf("uninstall --purge: %s", stderr)
	}
	if keys := e.redis.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys left in Redis: %v", keys)
	}
	if n := one[int](e, "select count(*) from pg_trigger where not tgisinternal"); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
	if one[bool](e, "select to_regnamespace('freshet') is not null") {
		t.Error("the schema is left")
	}
	if stdout, _, status := e.freshet("uninstall"); status != 0 || !strings.Contains(stdout, "nothing of Freshet's") {
		t.Errorf("a second uninstall: status %d, %s", status, stdout)
	}
}

// A program may send the whole text at once, which is one transaction but for what the
// text itself commits.
func TestInstallSQLNeedsNoPsql(t *testing.T) {
	e := newEnv(t)
	text, err := os.ReadFile("../sql/install.sql")
	if err != nil {
		t.Fatal(err)
	}
	program := &env{t: t, databaseURL: serverstest.Postgres(t)}
	for _, time := range []string{"first", "second"} {
		if err := program.script(string(text)); err != nil {
			t.Fatalf("the %s time: %v", time, err)
		}
		if want, got := dumpSchema(t, e.databaseURL), dumpSchema(t, program.databaseURL); !slices.Equal(want, got) {
			t.Fatalf("the %s time, it is not what migrate makes:\n%s", time, firstDifference(want, got))
		}
	}
}

// An uninstall that cannot remove all entries removes nothing: what was dropped would not be
// known to anybody any more.
func TestUninstallDropsNothingBeforeItsTargetsAnswer(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	stop()
	e.exec("select freshet.create_sink('far', 'users', key => 'far:${id}', targets => '{eu}')")
	dead := "redis://" + deadAddr(t)
	for want, variables := range map[string]map[string]string{
		"target eu has no URL: set FRESHET_REDIS_URL_EU": nil,
		"FRESHET_TARGETS leaves out target eu":           {"FRESHET_REDIS_URL_EU": e.redisURL, "FRESHET_TARGETS": "default"},
		strings.TrimPrefix(dead, "redis://"):             {"FRESHET_REDIS_URL_EU": dead},
	} {
		environment := map[string]string{"FRESHET_DATABASE_URL": e.superURL, "FRESHET_REDIS_URL": e.redisURL}
		maps.Copy(environment, variables)
		complains(t, environment, []string{"uninstall", "--purge"}, want)
	}
	if states := one[string](e, "select string_agg(state, ', ') from freshet.sinks"); states != "active, active" {
		t.Errorf("the sinks are %s", states)
	}
	if got := e.entry("users:7"); got == "" {
		t.Error("an entry is gone")
	}
}

// A sink of which another key was made has entries under the old one until a worker comes.
func TestUninstallRemovesEntriesOfAnOldKey(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	stop()
	e.exec("select freshet.alter_sink('users', key => 'people:${id}')")
	if states := one[string](e, "select string_agg(state, ', ' order by sink) from freshet.sinks"); states != "active, dropping" {
		t.Errorf("the sinks are %s", states)
	}
	if _, stderr, status := e.admin().freshet("uninstall", "--purge", "--force"); status != 0 {
		t.Fatalf("uninstall --purge: %d %s", status, stderr)
	}
	if keys := e.redis.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys left in Redis: %v", keys)
	}
}
