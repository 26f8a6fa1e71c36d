package integration

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// neighbour is another installation, in a database of its own, that writes to the same
// Redis.
func (e *env) neighbour() *env {
	e.t.Helper()
	n := newEnvOn(e.t, serverstest.Postgres(e.t), e.redisURL)
	n.exec(usersTable)
	n.exec("insert into users (id, name) select g, 'the neighbour''s' from generate_series(51, 150) g")
	return n
}

func (e *env) stateOf(sink string) string {
	return one[string](e, "select min(state) from freshet.status where sink = $1", sink)
}

func TestTwoInstallationsDoNotFightForTheSameKeys(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'ours' from generate_series(1, 100) g")
	n := e.neighbour()
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()

	// Another prefix is no problem, and neither is a look-alike.
	n.exec("select freshet.create_sink('theirs', 'users', key => 'theirs:${id}')")
	n.exec("select freshet.create_sink('users', 'users')")
	n.exec("select freshet.create_sink('wide', 'users', key => 'users:${id}:wide')")
	n.start()
	n.await("the keys are seen to be another's", func() bool { return n.stateOf("users") == "blocked" })
	if said := one[string](n, "select last_error from freshet.status where sink = 'users'"); !strings.HasPrefix(said, `the sink "users" of another installation (`) || !strings.Contains(said, "adopt => true") {
		t.Errorf("status says %q", said)
	}
	n.settle()
	n.inStep("theirs:*", "select 'theirs:' || id, to_jsonb(u)::text from users u")
	n.inStep("users:*:wide", "select 'users:' || id || ':wide', to_jsonb(u)::text from users u")
	e.inStep("users:???", "select 'users:' || id, to_jsonb(u)::text from users u where id > 99")

	e.exec("update users set name = name || '!'")
	e.settle()
	e.inStep("users:??", "select 'users:' || id, to_jsonb(u)::text from users u where id between 10 and 99")

	// Dropped, the blocked one removes nothing.
	n.exec("select freshet.drop_sink('users')")
	n.settle()
	e.inStep("users:??", "select 'users:' || id, to_jsonb(u)::text from users u where id between 10 and 99")

	// When the keys become free, whoever waits begins.
	n.exec("select freshet.create_sink('users', 'users')")
	n.await("blocked again", func() bool { return n.stateOf("users") == "blocked" })
	e.exec("select freshet.drop_sink('users')")
	n.await("it begins", func() bool { return n.stateOf("users") != "blocked" })
	n.exec("select freshet.drop_sink('wide')")
	e.settle()
	n.settle()
	n.inStep("users:*", usersPromise)
}

// Taking keys over from an installation that works: from one moment on the other one writes
// nothing, and every entry is the new owner's, while both tables are written to.
func TestKeysAreTakenOverFromAnotherInstallation(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'ours' from generate_series(1, 100) g")
	n := e.neighbour()
	e.exec("select freshet.create_sink('users', 'users', shards => 2)")
	e.start()
	e.settle()
	n.exec("select freshet.create_sink('users', 'users')")
	n.start()
	n.await("blocked", func() bool { return n.stateOf("users") == "blocked" })

	write := func(e *env) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if _, err := e.db.Exec(t.Context(), "update users set name = name || '.' where id % 7 = (random() * 7)::int"); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		}()
		return func() { cancel(); <-done }
	}
	for round, by := range []*env{n, e, n} {
		from := e
		if by == e {
			from = n
		}
		stopBy, stopFrom := write(by), write(from)
		by.exec("select freshet.alter_sink('users', adopt => true)")
		by.await("it writes", func() bool { return by.stateOf("users") != "blocked" })
		from.await("the other one is blocked", func() bool {
			return one[bool](from, "select bool_and(state = 'blocked') from freshet.status where sink = 'users'")
		})
		stopFrom()
		stopBy()
		by.settle()
		by.inStep("users:*", usersPromise)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	// What it lost it does not remove either.
	e.exec("select freshet.drop_sink('users')")
	e.settle()
	n.inStep("users:*", usersPromise)
}

// To look for keys of others is to walk the whole target: one lane of a sink does it, and less
// and less often.
func TestOneLaneLooksForKeysOfOthers(t *testing.T) {
	t.Parallel()
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, nil).URL())
	e.exec(usersTable)
	e.redis.Set(t.Context(), "users:4711", "theirs", 0)
	e.exec("select freshet.create_sink('users', 'users', shards => 4, backfill => false)")
	e.start()
	all := func(state string) func() bool {
		return func() bool {
			return one[bool](e, "select count(*) filter (where state = $1) = 4 from freshet.status", state)
		}
	}
	e.await("every lane is blocked", all("blocked"))
	walks := func() (n int) {
		info := e.redis.Info(t.Context(), "commandstats").Val()
		if _, rest, ok := strings.Cut(info, "cmdstat_scan:calls="); ok {
			n, _ = strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
		}
		return n
	}
	first := walks()
	e.await("it is looked for again", func() bool { return walks() > first })
	e.redis.Del(t.Context(), "users:4711")
	e.await("every lane is live", all("live"))
	if again := walks() - first; again != 2 {
		t.Errorf("the target was walked through %d times more; want the second look and the third", again)
	}
}

// A database that was restored gives the number of a sink out again, of which a target remembers
// the keys that another one had.
func TestNumberOfALostSinkOwnsNoOtherKeys(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('lost', 'users', key => 'lost:${id}')")
	stop := e.start()
	e.settle()
	stop()
	e.redis.Set(ctx, "users:4711", "theirs", 0)
	// As in a backup of before it was made.
	e.admin().exec("delete from freshet.sink; alter table freshet.sink alter column id restart")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.await("the sink is blocked", func() bool { return e.stateOf("users") == "blocked" })
	e.exec("select freshet.alter_sink('users', adopt => true)")
	e.await("it begins", func() bool { return e.stateOf("users") != "blocked" })
	e.awaitInStep("users:*", usersPromise)
}

// Two names of one server would have two lanes with one control key, and two sinks with the
// same keys.
func TestTwoTargetsThatAreOneServer(t *testing.T) {
	e := newEnv(t)
	e.targets = map[string]string{"eu": e.redisURL}
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("create table others (id bigint primary key)")
	e.exec("insert into others select g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,eu}')")
	e.exec("select freshet.create_sink('others', 'others', targets => '{default}')")
	e.exec("select freshet.create_sink('again', 'others', key => 'others:${id}', targets => '{eu}')")
	e.start()
	const said = "select coalesce(string_agg(last_error, ' '), '') from freshet.status where sink = any ($1) and state = 'blocked'"
	e.await("one lane of the sink is blocked", func() bool {
		return strings.Contains(one[string](e, said, []string{"users"}), "which is the same server")
	})
	e.await("one of the sinks is blocked", func() bool {
		return strings.Contains(one[string](e, said, []string{"others", "again"}), "for which this server is the target")
	})
	e.settle()
	e.exec("update users set name = 'changed' where id % 2 = 0; delete from users where id % 5 = 0")
	e.await("the other lane goes on", func() bool { return len(e.difference("users:*", usersPromise)) == 0 })
	if n := one[int](e, "select count(*) from freshet.status where state = 'blocked'"); n != 2 {
		t.Errorf("%d lanes are blocked, want 2", n)
	}
	e.exec("select freshet.drop_sink(sink) from freshet.sinks")
	e.await("the sinks are gone", func() bool { return one[int](e, "select count(*) from freshet.sinks") == 0 })
	if keys := e.redis.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("left: %q", keys)
	}
}
