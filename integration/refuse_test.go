package integration

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// recovery is how soon entries move on once the server is back.
const recovery = 2 * time.Second

// refusing is an env whose Redis is its own, and is reached by the worker through a proxy.
type refusing struct {
	*env
	server *servers.Redis
	proxy  *proxy
	// hand is a connection that stays, whatever becomes of the others.
	hand *redis.Conn
}

func newRefusing(t *testing.T, directives map[string]string) *refusing {
	t.Helper()
	t.Parallel()
	server := serverstest.RedisServer(t, directives)
	r := &refusing{env: newEnvOn(t, serverstest.Postgres(t), server.URL()), server: server}
	r.proxy, r.redisURL = newProxy(t, server.URL())
	r.hand = r.redis.Conn()
	t.Cleanup(func() { _ = r.hand.Close() })
	return r
}

func (r *refusing) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *refusing) set(name, value string) {
	r.t.Helper()
	r.must(r.hand.ConfigSet(r.t.Context(), name, value).Err())
}

// dropConnections has everybody but the test's hand log in again.
func (r *refusing) dropConnections() {
	r.t.Helper()
	r.must(r.hand.ClientKillByFilter(r.t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
}

// tracked reads entries over and over, as long as the server answers, and reports versions
// that go back.
func (e *env) tracked(keys ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		highest := make([]int64, len(keys))
		looks := 0
		defer func() {
			if looks == 0 {
				e.t.Error("the server never answered whoever looks at versions")
			}
		}()
		for ctx.Err() == nil {
			values, err := e.redis.MGet(ctx, keys...).Result()
			if err != nil {
				time.Sleep(5 * time.Millisecond) // it refuses readers too
				continue
			}
			looks++
			for i, value := range values {
				text, _ := value.(string)
				v := version(text)
				if v < highest[i] {
					e.t.Errorf("%s went back from version %d to %d", keys[i], highest[i], v)
					return
				}
				highest[i] = v
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	e.t.Cleanup(stop)
	return stop
}

// once inserts rows, one at a time, that nobody writes again: whatever batch is lost takes some
// of them along.
func (e *env) once() (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for id := 1_000_000; ctx.Err() == nil; id++ {
			if _, err := e.db.Exec(e.t.Context(), "insert into counters (id) values ($1)", id); err != nil && ctx.Err() == nil {
				e.t.Errorf("insert: %v", err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	e.t.Cleanup(stop)
	return stop
}

// resets cuts every connection in the middle of its transaction.
type resets struct{}

func (resets) pass(_ *link, d direction, piece []byte) ([]byte, bool) {
	at := strings.Index(string(piece), "hset")
	if d == toWorker || at < 0 {
		return piece, false
	}
	return piece[:at], true
}

func TestRedisThatRefusesIsWaitedForAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		directives map[string]string
		// says is what status has to say of it.
		says          string
		refuse, allow func(r *refusing)
	}{
		{"out of memory", map[string]string{"maxmemory-policy": "noeviction"}, "OOM",
			func(r *refusing) { r.set("maxmemory", "1") },
			func(r *refusing) { r.set("maxmemory", "0") }},
		{"a replica", nil, "READONLY",
			func(r *refusing) { r.must(r.hand.SlaveOf(r.t.Context(), "127.0.0.1", "1").Err()) },
			func(r *refusing) { r.must(r.hand.SlaveOf(r.t.Context(), "no", "one").Err()) }},
		{"another password", nil, "NOAUTH",
			func(r *refusing) { r.set("requirepass", "changed"); r.dropConnections() },
			func(r *refusing) { r.set("requirepass", "") }},
		{"resets in the middle of batches", nil, "target default",
			func(r *refusing) { r.proxy.guarded(resets{}) },
			func(r *refusing) { r.proxy.guarded(nil) }},
		{"silence", nil, "timeout",
			func(r *refusing) { r.must(r.server.Pause()) },
			func(r *refusing) { r.must(r.server.Resume()) }},
		{"down", map[string]string{"save": "3600 1"}, "target default",
			func(r *refusing) { r.must(r.server.Halt()) }, // it saves first
			func(r *refusing) { r.must(r.server.Restart(r.t.Context())) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRefusing(t, c.directives)
			r.exec(counters)
			r.exec("insert into counters (id) select g from generate_series(1, 400) g")
			r.exec("select freshet.create_sink('counters', 'counters')")
			_, id := r.worker()
			r.settle()
			stopTracking := r.tracked("counters:1", "counters:11", "counters:21")
			stopLoad, stopOnce := r.load(), r.once()
			r.awaitVersion("counters:1", r.raise())

			c.refuse(r)
			refused := one[time.Time](r.env, "select clock_timestamp()")
			r.exec("delete from counters where id = 400")
			r.await("status says what is wrong", func() bool {
				return one[bool](r.env, "select coalesce(last_error like '%' || $1 || '%' and last_error_at > $2, false) from freshet.status", c.says, refused)
			})
			t.Logf("status: %s", one[string](r.env, "select last_error from freshet.status"))
			newer := r.raise()
			stopLoad()
			stopOnce()
			c.allow(r)
			allowed := time.Now()
			// The last change of all, so that everything before it is there as well.
			r.awaitVersion("counters:1", newer)
			if waited := time.Since(allowed); waited > recovery {
				t.Errorf("entries moved on after %s; want %s", waited, recovery)
			} else {
				t.Logf("entries moved on after %s", waited)
			}
			r.settle()
			stopTracking()
			r.inStep("counters:*", countersPromise("counters"))
			if n := one[int](r.env, "select count(*) from freshet.backfills"); n != 1 {
				t.Errorf("%d backfills: nothing was lost", n)
			}
			if !r.holds(id) {
				t.Error("the worker lost its lane over it")
			}
		})
	}
}

// A server that was primary goes on to answer on the connections there are: who stays on them
// never comes to the one that is primary now.
func TestRedisThatIsNoLongerPrimaryIsLeft(t *testing.T) {
	r := newRefusing(t, nil)
	ctx := t.Context()
	next := serverstest.RedisServer(t, nil)
	now := *r.env
	now.redis = newRedis(t, next.URL())
	host, port, err := net.SplitHostPort(r.server.Addr())
	r.must(err)
	r.must(now.redis.SlaveOf(ctx, host, port).Err())
	r.exec(counters)
	r.exec("insert into counters (id) select g from generate_series(1, 400) g")
	r.exec("select freshet.create_sink('counters', 'counters')")
	_, id := r.worker()
	r.settle()
	r.awaitVersion("counters:1", r.raise())
	r.await("the replica has everything", func() bool {
		return r.hand.Do(ctx, "wait", 1, 100).Val() == int64(1)
	})

	r.must(now.redis.SlaveOf(ctx, "no", "one").Err())
	r.proxy.moveTo(next.URL())
	r.must(r.hand.SlaveOf(ctx, "127.0.0.1", "1").Err())
	changed := time.Now()
	now.awaitVersion("counters:1", r.raise())
	if waited := time.Since(changed); waited > recovery {
		t.Errorf("entries moved on after %s; want %s", waited, recovery)
	}
	r.exec("update counters set version = version + 1; delete from counters where id > 350")
	r.settle()
	now.inStep("counters:*", countersPromise("counters"))
	if n := one[int](r.env, "select count(*) from freshet.backfills"); n != 1 {
		t.Errorf("%d backfills: nothing was lost", n)
	}
	if !r.holds(id) {
		t.Error("the worker lost its lane over it")
	}
}

// A server that loads its file refuses whatever comes, and has the state of the file then.
func TestRedisThatIsLoadingIsWaitedForAndNothingIsLost(t *testing.T) {
	r := newRefusing(t, map[string]string{"key-load-delay": "1500", "loading-process-events-interval-bytes": "1024"})
	r.exec(counters)
	r.exec("insert into counters (id) select g from generate_series(1, 2000) g")
	r.exec("select freshet.create_sink('counters', 'counters')")
	r.worker()
	r.settle()
	r.exec("update counters set version = version + 1 where id <= 100")
	r.settle()
	r.must(r.redis.Save(t.Context()).Err())
	r.exec("update counters set version = version + 1 where id <= 50; delete from counters where id > 1990")
	r.settle()

	r.must(r.server.Kill())
	killed := one[time.Time](r.env, "select clock_timestamp()")
	newer := r.raise()
	up := make(chan error, 1)
	go func() { up <- r.server.Restart(context.WithoutCancel(t.Context())) }()
	r.await("status says what is wrong", func() bool {
		return one[bool](r.env, "select coalesce(last_error like '%LOADING%' and last_error_at > $1, false) from freshet.status", killed)
	})
	r.must(<-up)
	loaded := time.Now()
	r.awaitVersion("counters:1", newer)
	if waited := time.Since(loaded); waited > recovery {
		t.Errorf("entries moved on after %s; want %s", waited, recovery)
	}
	r.settle()
	r.inStep("counters:*", countersPromise("counters"))
}
