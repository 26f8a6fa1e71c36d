package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// patience is how long a state is waited for before a test gives up.
const patience = 30 * time.Second

// env is one test's own database with Freshet installed, and its own Redis key space.
type env struct {
	t           *testing.T
	databaseURL string
	redisURL    string
	db          *pgxpool.Pool
	redis       *redis.Client
	// targets beside default that workers of this test serve
	targets map[string]string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	return newEnvOn(t, serverstest.Postgres(t), serverstest.Redis(t))
}

// newEnvOn is for tests with servers of their own.
func newEnvOn(t *testing.T, databaseURL, redisURL string) *env {
	t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 16
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	e := &env{t: t, databaseURL: databaseURL, redisURL: redisURL, db: db, redis: newRedis(t, redisURL)}
	e.migrate()
	return e
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
	if err := install.Migrate(e.t.Context(), e.db, slog.New(slog.DiscardHandler)); err != nil {
		e.t.Fatal(err)
	}
}

// exec runs a statement and fails the test on an error.
func (e *env) exec(sql string, args ...any) {
	e.t.Helper()
	if _, err := e.db.Exec(e.t.Context(), sql, args...); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
}

// refused runs a statement that must fail with this text in its message.
func (e *env) refused(text, sql string, args ...any) {
	e.t.Helper()
	_, err := e.db.Exec(e.t.Context(), sql, args...)
	if err == nil {
		e.t.Fatalf("%s: it was accepted; want an error with %q", sql, text)
	}
	if !strings.Contains(err.Error(), text) {
		e.t.Fatalf("%s: %v; want an error with %q", sql, err, text)
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
	targets := map[string]string{"default": e.redisURL}
	maps.Copy(targets, e.targets)
	w, err := worker.New(e.t.Context(), worker.Config{
		DatabaseURL: e.databaseURL,
		Targets:     targets,
		Logger:      e.logger(),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			e.t.Errorf("worker: %v", err)
		}
	}
	e.t.Cleanup(stop)
	return stop
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
	deadline := time.Now().Add(patience)
	for !state() {
		if time.Now().After(deadline) {
			e.t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
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
