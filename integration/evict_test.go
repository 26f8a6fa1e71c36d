package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// wrong are the differences that are wrong: what the target has evicted is only absent.
func (e *env) wrong(pattern, promise string) []string {
	e.t.Helper()
	var wrong []string
	for _, d := range e.difference(pattern, promise) {
		if !strings.HasPrefix(d, "missing") {
			wrong = append(wrong, d)
		}
	}
	return wrong
}

// evicting is an env whose Redis has less memory than the entries of counters take.
func evicting(t *testing.T, policy string) *env {
	t.Helper()
	t.Parallel()
	server := serverstest.RedisServer(t, map[string]string{"maxmemory": "4mb", "maxmemory-policy": policy})
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 30000) g")
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('counters', 'counters')")
	return e
}

// evicted is how many keys the server has evicted.
func (e *env) evicted() (n int) {
	e.t.Helper()
	_, rest, _ := strings.Cut(e.redis.Info(e.t.Context(), "stats").Val(), "evicted_keys:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

// controlKeys are the keys of Freshet's own.
func (e *env) controlKeys() []string {
	e.t.Helper()
	keys, err := e.redis.Keys(e.t.Context(), "freshet:*").Result()
	if err != nil {
		e.t.Fatal(err)
	}
	return keys
}

// A server that evicts whatever it likes evicts Freshet's own keys as well. To warm it again
// for that would have it evict more, and so on for ever.
func TestTargetThatEvictsIsNotWarmedForEver(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "allkeys-random"} {
		t.Run(policy, func(t *testing.T) {
			e := evicting(t, policy)
			e.worker()
			e.settle()
			for n := range 3 {
				e.exec("update counters set version = version + 1 where id % 2 = $1", n%2)
				e.exec("delete from counters where id % 100 = $1", n)
				e.exec("update users set name = name || $1::int where id % 3 = 0", n)
				e.settle()
			}
			if e.evicted() < 30000 {
				t.Fatalf("only %d keys were evicted", e.evicted())
			}
			for pattern, promise := range map[string]string{"users:*": usersPromise, "counters:*": countersPromise("counters")} {
				if wrong := e.wrong(pattern, promise); len(wrong) > 0 {
					t.Errorf("%d entries are wrong: %s", len(wrong), wrong[0])
				}
			}
			if n := one[int](e, "select count(*) from freshet.backfills"); n > 4 {
				t.Errorf("%d backfills for two sinks", n)
			}
		})
	}
}

// What is known to be evicted is made again from Postgres' copy, idle lane or not.
func TestEvictedControlKeyIsMadeAgainWithoutWarming(t *testing.T) {
	e := evicting(t, "allkeys-lru")
	ctx := t.Context()
	e.start()
	e.settle()
	if e.evicted() == 0 {
		t.Fatal("nothing was evicted")
	}
	before := one[int](e, "select count(*) from freshet.backfills")
	e.asleep()
	key := one[string](e, "select format('freshet:%s:%s:0', i.id, s.id) from freshet.installation i, freshet.sink s where s.name = 'users'")
	for range 3 {
		if err := e.redis.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		deleted := time.Now()
		e.await("the key is made again", func() bool { return e.redis.Exists(ctx, key).Val() == 1 })
		t.Logf("made again after %s", time.Since(deleted))
		e.exec("update users set name = name || '!' where id = 1; delete from users where id = (select max(id) from users)")
		e.settle()
	}
	if n := one[int](e, "select count(*) from freshet.backfills"); n != before {
		t.Errorf("there were %d backfills and there are %d: the entries were there", before, n)
	}
	if wrong := e.wrong("users:*", usersPromise); len(wrong) > 0 {
		t.Errorf("%d entries are wrong: %s", len(wrong), wrong[0])
	}
}

// Of a database of the same server in which Freshet never was nothing was evicted.
func TestOtherDatabaseOfATargetThatEvictsIsWarmed(t *testing.T) {
	e := evicting(t, "allkeys-lru")
	stop := e.start()
	e.settle()
	if e.evicted() == 0 {
		t.Fatal("nothing was evicted")
	}
	stop()
	if err := e.redis.ConfigSet(t.Context(), "maxmemory", "64mb").Err(); err != nil {
		t.Fatal(err)
	}
	e.redisURL = strings.TrimSuffix(e.redisURL, "/0") + "/1"
	e.redis = newRedis(t, e.redisURL)
	e.start()
	e.awaitInStep("users:*", usersPromise)
	e.awaitInStep("counters:*", countersPromise("counters"))
}

// On a server that evicts, a loss of another kind is a loss all the same.
func TestLossOnATargetThatEvictsIsWarmedAgain(t *testing.T) {
	e := evicting(t, "allkeys-lru")
	e.start()
	e.settle()
	if e.evicted() == 0 {
		t.Fatal("nothing was evicted")
	}
	// Room for everything, so that what is missing was not evicted.
	if err := e.redis.ConfigSet(t.Context(), "maxmemory", "64mb").Err(); err != nil {
		t.Fatal(err)
	}
	for _, lose := range []string{"flushall", "flushdb"} {
		if err := e.redis.Do(t.Context(), lose).Err(); err != nil {
			t.Fatal(err)
		}
		e.awaitInStep("users:*", usersPromise)
		e.awaitInStep("counters:*", countersPromise("counters"))
		e.settle()
	}
	if len(e.controlKeys()) == 0 {
		t.Error("there is no control key")
	}
}
