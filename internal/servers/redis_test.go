package servers

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func startTestRedis(t *testing.T, directives map[string]string) (*Redis, *redis.Client) {
	t.Helper()
	r, err := StartRedis(t.Context(), Options{Purpose: Test, Redis: directives})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r, dial(t, r)
}

func dial(t *testing.T, r *Redis) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	opts.MaxRetries = -1
	opts.ReadTimeout = 200 * time.Millisecond
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRedisTakesDirectivesOverDefaults(t *testing.T) {
	t.Parallel()
	_, client := startTestRedis(t, map[string]string{
		"databases": "512", "requirepass": "secret", "maxmemory": "64mb",
		"client-output-buffer-limit": "normal 0 0 0", "notify-keyspace-events": "",
	})
	for name, want := range map[string]string{
		"databases": "512", "maxmemory": "67108864", "save": "", "appendonly": "no", "bind": "127.0.0.1",
	} {
		got, err := client.ConfigGet(t.Context(), name).Result()
		if err != nil || got[name] != want {
			t.Errorf("%s = %q, want %q (%v)", name, got[name], want, err)
		}
	}
}

func TestRedisComesBackOnItsPortAfterKill(t *testing.T) {
	t.Parallel()
	r, client := startTestRedis(t, map[string]string{"appendonly": "yes", "appendfsync": "always"})
	if err := client.Set(t.Context(), "kept", "yes", 0).Err(); err != nil {
		t.Fatal(err)
	}
	pid := r.PID()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answers")
	}
	for range 2 { // once from killed, once from running
		if err := r.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := dial(t, r).Get(t.Context(), "kept").Result(); got != "yes" {
			t.Errorf("after a restart: %q, %v", got, err)
		}
	}
	if r.PID() == pid || r.PID() == 0 {
		t.Errorf("process %d after %d", r.PID(), pid)
	}
}

func TestPausedRedisIsSilentUntilResumed(t *testing.T) {
	t.Parallel()
	r, client := startTestRedis(t, nil)
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("a paused server answers")
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	pid, dir := r.PID(), r.dir.path
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	if err := r.Pause(); !errors.Is(err, ErrStopped) {
		t.Errorf("pause after stop: %v", err)
	}
}

func TestRedisThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := StartRedis(t.Context(), Options{Purpose: Test, Redis: map[string]string{"no-such-directive": "1"}})
	if err == nil || !strings.HasPrefix(err.Error(), "start redis: ") || !strings.Contains(err.Error(), "no-such-directive") {
		t.Errorf("got %v", err)
	}
}

func TestInProcessRedisLetsKeysExpire(t *testing.T) {
	t.Parallel()
	r := &Redis{instance: instance{product: "redis"}, password: "secret"}
	if err := r.runInProcess(); err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	client := dial(t, r)
	if err := client.Set(t.Context(), "k", "v", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	for client.Exists(t.Context(), "k").Val() != 0 {
		if t.Context().Err() != nil {
			t.Fatal("the key stays")
		}
	}
	if err := r.Kill(); !errors.Is(err, ErrNotOurProcess) {
		t.Errorf("kill: %v", err)
	}
	if r.PID() != 0 {
		t.Errorf("pid %d", r.PID())
	}
	for range 2 {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	}
}
