// Package serverstest gives tests real Postgres and real Redis: each test its
// own database and its own key space, on servers that the tests of one binary
// share and that start when the first of them asks.
//
// It must never skip a test and never hand out what another test still uses.
//
// A package that uses it has a TestMain:
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		serverstest.Shutdown()
//		os.Exit(code)
//	}
package serverstest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
)

// redisDatabases is how many tests can have a key space at one time.
const redisDatabases = 512

// installTimeout leaves room for a package manager or a download.
const installTimeout = 10 * time.Minute

// cleanupTimeout bounds what is done after a test's own context has ended.
const cleanupTimeout = 30 * time.Second

var (
	postgres     = shared[*servers.Postgres]{start: servers.StartPostgres, kind: "postgres"}
	redisServer  = shared[*servers.Redis]{start: servers.StartRedis, kind: "redis"}
	databases    atomic.Int64
	prepared     template
	freeKeySpace = keySpaces()
)

// Postgres returns the URL of a fresh database on the shared server. It is
// dropped when the test ends. Whatever concerns a whole cluster, such as its
// settings, a crash or old snapshots, needs PostgresWith.
func Postgres(t testing.TB) (url string) {
	t.Helper()
	return database(t, func(context.Context, *servers.Postgres) (string, error) { return "template1", nil })
}

// PostgresFrom is Postgres with what prepare makes in a database. That is made once for the
// tests of a binary, so all of them have to give the same, and then copied. It must be
// disconnected when it returns.
func PostgresFrom(t testing.TB, prepare func(ctx context.Context, url string) error) (url string) {
	t.Helper()
	return database(t, func(ctx context.Context, server *servers.Postgres) (string, error) {
		return prepared.name(ctx, server, prepare)
	})
}

// template is a database that others are copied from.
type template struct {
	once sync.Once
	err  error
}

func (p *template) name(ctx context.Context, server *servers.Postgres, prepare func(context.Context, string) error) (string, error) {
	const name = "prepared"
	p.once.Do(func() {
		// Not broken off with the test that comes first.
		ctx := context.WithoutCancel(ctx)
		url, err := server.CreateDatabase(ctx, name)
		if err == nil {
			err = prepare(ctx, url)
		}
		if err != nil {
			p.err = fmt.Errorf("prepare a database for all tests: %w", err)
		}
	})
	return name, p.err
}

func database(t testing.TB, from func(context.Context, *servers.Postgres) (string, error)) (url string) {
	t.Helper()
	server := postgres.get(t)
	name := "test_" + strconv.FormatInt(databases.Add(1), 10)
	source, err := from(t.Context(), server)
	if err == nil {
		url, err = server.CopyDatabase(t.Context(), source, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := server.DropDatabase(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return url
}

// Redis returns the URL of an empty database on the shared server. It is
// emptied when the test ends. Whatever concerns a whole server, such as its
// memory limit, FLUSHALL or functions, needs RedisServer.
func Redis(t testing.TB) (url string) {
	t.Helper()
	server := redisServer.get(t)
	var number int
	select {
	case number = <-freeKeySpace:
	default:
		t.Fatalf("all %d key spaces are in use", redisDatabases)
	}
	url = server.DatabaseURL(number)
	t.Cleanup(func() {
		if err := flush(url); err != nil {
			// Not given back: the next test would find this one's keys.
			t.Errorf("flush redis database %d: %v", number, err)
			return
		}
		freeKeySpace <- number
	})
	return url
}

// PostgresWith starts a server of the test's own, stopped when it ends.
func PostgresWith(t testing.TB, settings map[string]string) *servers.Postgres {
	t.Helper()
	server, err := servers.StartPostgres(t.Context(), options(settings, nil))
	return own(t, server, err)
}

// RedisServer starts a server of the test's own, stopped when it ends.
func RedisServer(t testing.TB, directives map[string]string) *servers.Redis {
	t.Helper()
	server, err := servers.StartRedis(t.Context(), options(nil, directives))
	return own(t, server, err)
}

// RedisTLSServer starts a server of the test's own with a second port for TLS, stopped when
// it ends.
func RedisTLSServer(t testing.TB, files servers.RedisTLS) *servers.Redis {
	t.Helper()
	o := options(nil, nil)
	o.RedisTLS = &files
	server, err := servers.StartRedis(t.Context(), o)
	return own(t, server, err)
}

// Shutdown stops the shared servers. TestMain calls it after the tests.
func Shutdown() {
	for _, err := range []error{postgres.stop(), redisServer.stop()} {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func own[S interface{ Stop() error }](t testing.TB, server S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// shared is a server that starts when it is first asked for.
type shared[S interface{ Stop() error }] struct {
	kind   string
	start  func(context.Context, servers.Options) (S, error)
	once   sync.Once
	server S
	err    error
	up     bool
}

func (s *shared[S]) get(t testing.TB) S {
	t.Helper()
	s.once.Do(func() {
		// Not the test's context: the server outlives the test.
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		s.server, s.err = s.start(ctx, options(
			map[string]string{"max_prepared_transactions": "0", "jit": "off"},
			map[string]string{"databases": strconv.Itoa(redisDatabases)},
		))
		s.up = s.err == nil
	})
	if s.err != nil {
		t.Fatalf("shared %s: %v", s.kind, s.err)
	}
	return s.server
}

func (s *shared[S]) stop() error {
	s.once.Do(func() { s.err = servers.ErrStopped })
	if !s.up {
		return nil
	}
	return s.server.Stop()
}

func options(postgres, redis map[string]string) servers.Options {
	return servers.Options{
		Purpose:  servers.Test,
		Log:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Postgres: postgres,
		Redis:    redis,
		InMemory: true,
	}
}

func keySpaces() chan int {
	free := make(chan int, redisDatabases)
	for n := range redisDatabases {
		free <- n
	}
	return free
}

func flush(url string) error {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	return client.FlushDB(ctx).Err()
}
