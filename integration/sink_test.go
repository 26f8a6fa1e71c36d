package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

func TestPausedSinkKeepsItsChangesUntilItIsResumed(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("create table other (id int primary key, n int)")
	e.exec("select freshet.create_sink('other', 'other')")
	e.start()
	e.settle()

	e.exec("select freshet.pause_sink('users')")
	e.await("the lane has let go", func() bool {
		return one[string](e, "select state from freshet.status where sink = 'users'") == "paused" &&
			one[bool](e, "select coalesce(as_of < now() - interval '2 seconds', false) from freshet.status where sink = 'users'")
	})
	e.exec("update users set name = 'paused'")
	e.exec("insert into other values (1, 1)")
	e.settle() // of the sinks that are not paused
	if got := e.entry("other:1"); got == "" {
		t.Error("another sink is held up")
	}
	if got := e.entry("users:1"); !sameJSON(got, one[string](e, "select (to_jsonb(u) || '{\"name\": \"user\"}')::text from users u where id = 1")) {
		t.Errorf("a paused sink wrote %s", got)
	}
	e.exec("select freshet.resume_sink('users')")
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestEntriesExpire(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.refused("expires: ", "select freshet.create_sink('users', 'users', expires => '-1 second')")
	e.exec("select freshet.create_sink('users', 'users', expires => '1 hour')")
	e.exec("select freshet.create_sink('short', 'users', key => 'short:${id}', expires => '150 milliseconds')")
	e.exec("select freshet.create_sink('never', 'users', key => 'never:${id}', expires => '0')")
	e.start()
	e.settle()
	e.exec("update users set name = 'changed' where id <= 50")
	e.settle()
	e.inStep("users:*", usersPromise)
	for _, key := range []string{"users:1", "users:100"} {
		if ttl := e.redis.PTTL(t.Context(), key).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("%s expires in %v", key, ttl)
		}
	}
	if ttl := e.redis.TTL(t.Context(), "never:1").Val(); ttl != -1 {
		t.Errorf("never:1 expires in %v", ttl)
	}
	e.await("the short ones are gone", func() bool { return len(e.redis.Keys(t.Context(), "short:*").Val()) == 0 })
	e.verifies("in step: 100 entries, 0 stale, missing not counted, 0 orphaned", 0, "short")
}

func TestTargetsAreServedEachByItself(t *testing.T) {
	e := newEnv(t)
	eu := serverstest.RedisServer(t, nil)
	other := *e
	both := &other
	both.redisURL, both.redis = eu.URL(), newRedis(t, eu.URL())
	e.targets = map[string]string{"eu": eu.URL()}
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	for targets, text := range map[string]string{"{}": "the list is empty", "{default,default}": "named twice", "{EU}": "is not the name of a target"} {
		e.refused(text, "select freshet.create_sink('users', 'users', targets => $1)", targets)
	}
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,eu}')")
	e.exec("select freshet.create_sink('eu_only', 'users', key => 'eu:${id}', targets => '{eu}')")
	e.start()
	settle := func() {
		t.Helper()
		if err := worker.Settle(t.Context(), e.db, []string{"default", "eu"}); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	e.inStep("users:*", usersPromise)
	both.inStep("users:*", usersPromise)
	if n := len(e.redis.Keys(t.Context(), "eu:*").Val()); n != 0 {
		t.Errorf("%d entries on the wrong target", n)
	}

	if err := eu.Kill(); err != nil {
		t.Fatal(err)
	}
	e.exec("update users set name = 'while eu is down'")
	e.settle() // default only
	e.inStep("users:*", usersPromise)
	if err := eu.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle()
	settle() // the re-warm, once the lanes have noticed
	both.inStep("users:*", usersPromise)
	both.inStep("eu:*", `select 'eu:' || id, to_jsonb(u)::text from users u`)
}

func TestRefreshAndSweepMendByHand(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("create table pairs (a int, b text, n int, primary key (a, b))")
	e.exec("insert into pairs values (1, 'x', 1)")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('pairs', 'pairs', key => 'pairs:${b|url}:${a}')")
	e.start()
	e.settle()
	e.redis.Set(ctx, "users:7", "wrong", 0)
	e.redis.Set(ctx, "pairs:x:1", "wrong", 0)
	e.redis.Set(ctx, "users:1234", "orphan", 0)
	e.refused("values for the", "select freshet.refresh('pairs', 'x')")
	e.exec("select freshet.refresh('users', 7)")
	e.exec("select freshet.refresh('pairs', 'x', '1')")
	e.exec("select freshet.sweep('users')")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("pairs:*", "select 'pairs:' || b || ':' || a, to_jsonb(p)::text from pairs p")
}

func TestKeysOfOthersBlockASinkUntilTheyAreTakenOver(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	others := map[string]string{"users:5": "theirs", "users:4711": "theirs"}
	for key, value := range others {
		e.redis.Set(ctx, key, value, 0)
	}
	e.redis.Set(ctx, "users:x", "of another form", 0)
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	state := func() string { return one[string](e, "select state from freshet.status where sink = 'users'") }
	e.await("the sink is blocked", func() bool { return state() == "blocked" })
	if said := one[string](e, "select last_error from freshet.status"); !strings.HasPrefix(said, "2 keys of the form users:${id} are there already") {
		t.Errorf("status says %q", said)
	}
	e.exec("update users set name = 'changed'")
	e.settle() // does not wait for what is blocked
	for key, value := range others {
		if got := e.entry(key); got != value {
			t.Errorf("%s: %q was written while blocked", key, got)
		}
	}
	if n := len(e.redis.Keys(ctx, "users:*").Val()); n != 3 {
		t.Errorf("%d keys; want the three that were there", n)
	}

	// Dropped, it leaves them alone; taken over, they are entries like any other.
	e.exec("select freshet.drop_sink('users')")
	e.settle()
	if n := len(e.redis.Keys(ctx, "users:*").Val()); n != 3 {
		t.Errorf("%d keys after the drop; want the three that were there", n)
	}
	e.exec("select freshet.create_sink('users', 'users')")
	e.await("the sink is blocked again", func() bool { return state() == "blocked" })
	e.exec("select freshet.alter_sink('users', adopt => true)")
	e.await("it writes", func() bool { return state() != "blocked" })
	e.settle()
	e.exec("select freshet.sweep('users')")
	e.settle()
	e.redis.Del(ctx, "users:x")
	e.inStep("users:*", usersPromise)

	e.exec("select freshet.create_sink('adopting', 'users', key => 'adopted:${id}', adopt => true)")
	e.settle()
	e.inStep("adopted:*", "select 'adopted:' || id, to_jsonb(u)::text from users u")
}

func TestSinkThatIsDroppedMeanwhileIsNotAltered(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	tx, err := e.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select freshet.drop_sink('users')"); err != nil {
		t.Fatal(err)
	}
	const alter = "select freshet.alter_sink('users', shards => 3)"
	altered := make(chan error, 1)
	go func() {
		_, err := e.db.Exec(t.Context(), alter)
		altered <- err
	}()
	e.await("it waits for the drop", func() bool {
		return one[bool](e, "select exists (select from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.query = $1)", alter)
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-altered; err == nil || !strings.Contains(err.Error(), `there is no sink "users"`) {
		t.Errorf("altering a dropped sink: %v", err)
	}
}
