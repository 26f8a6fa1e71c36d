package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// patience is how long a state is waited for before a test gives up.
const patience = time.Minute

// env is one test's own database with Freshet installed, and its own Redis key space.
// Three roles are at work: a superuser installs, another owns the database and creates
// tables and sinks, and a third runs the workers. With FRESHET_TEST_SUPERUSER set all
// three are the superuser.
type env struct {
	t *testing.T
	// databaseURL and db are the owner's.
	databaseURL string
	db          *pgxpool.Pool
	workerURL   string
	// superURL and super are for what only an administrator can do.
	superURL string
	super    *pgxpool.Pool
	redisURL string
	redis    *redis.Client
	// targets beside default that workers of this test serve
	targets map[string]string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	e := environment(t, serverstest.PostgresFrom(t, migrated), serverstest.Redis(t))
	// Copied with the rest, and no two databases have the same.
	e.admin().exec("update freshet.installation set id = substr(md5(gen_random_uuid()::text), 1, 12), created_at = now()")
	return e
}

// migrated prepares a database as newEnvOn does.
func migrated(ctx context.Context, databaseURL string) error {
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	return install.Migrate(ctx, pool, slog.New(slog.DiscardHandler))
}

// newEnvOn is for tests with servers of their own.
func newEnvOn(t *testing.T, databaseURL, redisURL string) *env {
	t.Helper()
	if err := migrated(t.Context(), databaseURL); err != nil {
		t.Fatal(err)
	}
	return environment(t, databaseURL, redisURL)
}

// environment is one on servers where Freshet is installed.
func environment(t *testing.T, databaseURL, redisURL string) *env {
	t.Helper()
	e := &env{t: t, redisURL: redisURL, redis: newRedis(t, redisURL), superURL: databaseURL, super: newPool(t, databaseURL)}
	e.databaseURL, e.workerURL = databaseURL, databaseURL
	if os.Getenv("FRESHET_TEST_SUPERUSER") == "" {
		e.databaseURL, e.workerURL = e.roles(databaseURL)
	}
	e.db = newPool(t, e.databaseURL)
	return e
}

func newPool(t *testing.T, databaseURL string) *pgxpool.Pool {
	t.Helper()
	return newPoolOf(t, databaseURL, 16)
}

func newPoolOf(t *testing.T, databaseURL string, connections int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// admin is e in the hands of a superuser.
func (e *env) admin() *env {
	admin := *e
	admin.db, admin.databaseURL, admin.workerURL = e.super, e.superURL, e.superURL
	return &admin
}

// roles makes the owner of the database and the role of its workers, and returns their
// URLs. Roles are the whole cluster's, so all tests share them.
func (e *env) roles(databaseURL string) (owner, worker string) {
	e.t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		e.t.Fatal(err)
	}
	password, _ := u.User.Password()
	err = pgx.BeginFunc(e.t.Context(), e.super, func(tx pgx.Tx) error {
		if _, err := tx.Exec(e.t.Context(), "select set_config('test.password', $1, true)", password); err != nil {
			return err
		}
		_, err := tx.Exec(e.t.Context(), `
			do $$
			begin
				-- One at a time, in whichever database.
				lock table pg_catalog.pg_authid in share row exclusive mode;
				if to_regrole('app_owner') is null then
					execute format('create role app_owner login password %L', current_setting('test.password'));
					execute format('create role app_worker login password %L', current_setting('test.password'));
				end if;
				grant freshet_admin to app_owner;
				grant freshet_worker to app_worker;
				execute format('alter database %I owner to app_owner', current_database());
			end
			$$`)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return as(u, "app_owner", password), as(u, "app_worker", password)
}

// as is a database URL for another role.
func as(u *url.URL, role, password string) string {
	other := *u
	other.User = url.UserPassword(role, password)
	return other.String()
}

func newRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

func (e *env) migrate() {
	e.t.Helper()
	if err := install.Migrate(e.t.Context(), e.super, slog.New(slog.DiscardHandler)); err != nil {
		e.t.Fatal(err)
	}
}

// exec runs a statement and fails the test on an error.
func (e *env) exec(sql string, args ...any) {
	e.t.Helper()
	if _, err := e.db.Exec(e.t.Context(), sql, args...); err != nil {
		e.t.Fatalf("%s: %v%s", sql, err, more(err))
	}
}

// more is what Postgres says beside the message: who waits for whom in a deadlock, for one.
func more(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return ""
	}
	return fmt.Sprintf("\ndetail: %s\nwhere: %s", pgErr.Detail, pgErr.Where)
}

// session is a connection of the test's own until its end.
func (e *env) session() *pgxpool.Conn {
	e.t.Helper()
	conn, err := e.db.Acquire(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(conn.Release)
	return conn
}

// locked reports whether somebody waits for a lock in a statement that has this text in it.
func (e *env) locked(text string) bool {
	e.t.Helper()
	return one[bool](e.admin(), `select exists (select from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock' and position($1 in query) > 0)`, text)
}

// refused runs a statement that must fail with this text in its message or its hint.
func (e *env) refused(text, sql string, args ...any) {
	e.t.Helper()
	_, err := e.db.Exec(e.t.Context(), sql, args...)
	if err == nil {
		e.t.Fatalf("%s: it was accepted; want an error with %q", sql, text)
	}
	said := err.Error()
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		said += "\nHINT: " + pgErr.Hint
	}
	if !strings.Contains(said, text) {
		e.t.Fatalf("%s: %s; want an error with %q", sql, said, text)
	}
}

// one reads one value.
func one[T any](e *env, sql string, args ...any) T {
	e.t.Helper()
	rows, err := e.db.Query(e.t.Context(), sql, args...)
	if err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// firstCursor is that of a lane of the only sink, before a worker has served it.
func (e *env) firstCursor() cursor.Cursor {
	e.t.Helper()
	c, err := cursor.Parse(one[string](e, "select cursor from freshet.lease where kind = 'sync' limit 1"))
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// snapshot is which transactions have ended by now.
func (e *env) snapshot() cursor.Snapshot {
	e.t.Helper()
	s, err := cursor.ParseSnapshot(one[string](e, "select pg_current_snapshot()::text"))
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// logger writes to the test's log when FRESHET_TEST_LOG is set.
func (e *env) logger() *slog.Logger {
	if os.Getenv("FRESHET_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start runs a worker inside the test. stop ends it and waits; it is called at the end
// of the test in any case.
func (e *env) start() (stop func()) {
	e.t.Helper()
	_, stop = e.startWith(func(*worker.Config) {})
	return stop
}

// startWith is start with a Config that is not the usual one.
func (e *env) startWith(change func(*worker.Config)) (w *worker.Worker, stop func()) {
	e.t.Helper()
	config := worker.Config{DatabaseURL: e.workerURL, Targets: map[string]string{"default": e.redisURL}, Logger: e.logger()}
	maps.Copy(config.Targets, e.targets)
	change(&config)
	w, err := worker.New(e.t.Context(), config)
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			e.t.Errorf("worker: %v", err)
		}
	})
	e.t.Cleanup(stop)
	return w, stop
}

// settle waits until everything committed so far is in Redis. A worker must run.
func (e *env) settle() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	if err := worker.Settle(ctx, e.db, []string{"default"}); err != nil {
		e.t.Fatal(err)
	}
}

// await waits until state returns true.
func (e *env) await(what string, state func() bool) {
	e.t.Helper()
	for p := newPolls(); !state(); p.pause() {
		if p.over() {
			e.t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// polls are looks at something that is waited for: close together at first, and then such that
// the tests beside this one have the processors.
type polls struct {
	deadline time.Time
	wait     time.Duration
}

func newPolls() *polls { return &polls{deadline: time.Now().Add(patience), wait: 2 * time.Millisecond} }

func (p *polls) over() bool { return time.Now().After(p.deadline) }

func (p *polls) pause() {
	time.Sleep(p.wait)
	p.wait = min(p.wait*5/4, 20*time.Millisecond)
}

// entry reads one entry, "" if there is none.
func (e *env) entry(key string) string {
	e.t.Helper()
	value, err := e.redis.Get(e.t.Context(), key).Result()
	if err != nil && err != redis.Nil {
		e.t.Fatal(err)
	}
	return value
}

// inStep compares every key that matches pattern with what the query says the promise
// is: rows of key and jsonb value. It looks at once: call settle before.
func (e *env) inStep(pattern, query string, args ...any) {
	e.t.Helper()
	if diff := e.difference(pattern, query, args...); len(diff) > 0 {
		n := len(diff)
		e.t.Fatalf("%d entries differ from %s:\n%s", n, query, strings.Join(diff[:min(n, 10)], "\n"))
	}
}

func (e *env) difference(pattern, query string, args ...any) []string {
	e.t.Helper()
	ctx := e.t.Context()
	want := make(map[string]string)
	rows, err := e.db.Query(ctx, query, args...)
	if err != nil {
		e.t.Fatalf("%s: %v", query, err)
	}
	var key, value string
	if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { want[key] = value; return nil }); err != nil {
		e.t.Fatalf("%s: %v", query, err)
	}

	got := make(map[string]string)
	iter := e.redis.Scan(ctx, 0, pattern, 5000).Iterator()
	var keys []string
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	if err := iter.Err(); err != nil {
		e.t.Fatal(err)
	}
	for len(keys) > 0 {
		n := min(len(keys), 5000)
		values, err := e.redis.MGet(ctx, keys[:n]...).Result()
		if err != nil {
			e.t.Fatal(err)
		}
		for i, v := range values {
			if text, ok := v.(string); ok {
				got[keys[i]] = text
			}
		}
		keys = keys[n:]
	}

	var diff []string
	for k, w := range want {
		g, ok := got[k]
		switch {
		case !ok:
			diff = append(diff, fmt.Sprintf("missing  %s: want %s", k, w))
		case !sameJSON(g, w):
			diff = append(diff, fmt.Sprintf("stale    %s: got %s, want %s", k, g, w))
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			diff = append(diff, fmt.Sprintf("orphaned %s: %s", k, g))
		}
	}
	sort.Strings(diff)
	return diff
}

// sameJSON compares documents, numbers by their digits.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	for text, into := range map[string]*any{a: &x, b: &y} {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		if d.Decode(into) != nil {
			return false
		}
	}
	return reflect.DeepEqual(x, y)
}

// usersTable is the table most tests use.
const usersTable = `create table users (
	id bigint primary key, name text not null, email text, active boolean not null default true,
	price numeric(10,2), created_at timestamptz not null default now())`

// usersPromise is what the sink users of it has to hold.
const usersPromise = `select 'users:' || id, to_jsonb(u)::text from users u`
