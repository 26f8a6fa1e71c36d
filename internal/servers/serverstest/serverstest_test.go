package serverstest_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	serverstest.Shutdown()
	serverstest.Shutdown() // harmless
	os.Exit(code)
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	for range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn, err := pgx.Connect(t.Context(), serverstest.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err := conn.Exec(t.Context(), "create table mine ()"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("uses one", func(t *testing.T) {
		url = serverstest.Postgres(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		// Left open: a forgotten connection must not keep the database.
		t.Cleanup(func() { conn.Close(context.Background()) })
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(context.Background())
		t.Error("the database is still there")
	}
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEachTestHasItsOwnKeySpace(t *testing.T) {
	t.Parallel()
	// More in turn than there are numbers: they come back, and empty.
	for range 600 {
		t.Run("", func(t *testing.T) {
			c := client(t, serverstest.Redis(t))
			if n, err := c.DBSize(t.Context()).Result(); err != nil || n != 0 {
				t.Fatalf("%d keys, %v", n, err)
			}
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
	a, b := client(t, serverstest.Redis(t)), client(t, serverstest.Redis(t))
	if err := a.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("one test sees another's key (%v)", err)
	}
}

func TestPrivateServersTakeSettings(t *testing.T) {
	t.Parallel()
	p := serverstest.PostgresWith(t, map[string]string{"max_prepared_transactions": "7"})
	conn, err := pgx.Connect(t.Context(), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	if err := conn.QueryRow(t.Context(), "show max_prepared_transactions").Scan(&got); err != nil || got != "7" {
		t.Errorf("got %q, %v", got, err)
	}
	r := serverstest.RedisServer(t, map[string]string{"maxmemory": "64mb"})
	limit, err := client(t, r.URL()).ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || limit["maxmemory"] != "67108864" {
		t.Errorf("got %v, %v", limit, err)
	}
}
