package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// altered is a way to change a sink on users, and what its entries are then.
type altered struct{ name, arguments, promise string }

// what stays under the same keys.
var alterations = []altered{
	{"columns", "columns => '{id,name}'", "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from users"},
	{"filter", "filter => 'active'", "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from users where active"},
	{"value", "value => 'name || price'", "select 'users:' || id, name || price from users where active and price is not null"},
	{"another filter", "filter => 'id % 3 = 0'", "select 'users:' || id, name || price from users where id % 3 = 0 and price is not null"},
	{"expiry", "expires => '1 hour'", "select 'users:' || id, name || price from users where id % 3 = 0 and price is not null"},
	{"expiry by row", "expires_at => 'created_at + interval ''1 day'''", "select 'users:' || id, name || price from users where id % 3 = 0 and price is not null"},
	{"no value", "reset => '{value,expires_at}'", "select 'users:' || id, to_jsonb(u)::text from users u where id % 3 = 0"},
	{"star", "columns => '{*}', reset => '{filter}'", usersPromise},
}

func TestAlteredSinkIsWhatItSays(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(400)
	e.exec(usersTable)
	e.exec("insert into users (id, name, active, price) select g, 'n' || g, g % 4 > 0, nullif(g % 5, 0) from generate_series(1, 2000) g; analyze users")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.lastBackfill("users")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		draw := rand.New(rand.NewPCG(5, 5))
		for ctx.Err() == nil {
			_, err := e.db.Exec(t.Context(), "update users set name = name || 'x', active = not active, price = coalesce(price, 0) + 1 where id = $1", 1+draw.IntN(2000))
			if err != nil && ctx.Err() == nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	for _, a := range alterations {
		e.exec("select freshet.alter_sink('users', " + a.arguments + ")")
		e.changed("users")
	}
	cancel()
	wg.Wait()
	e.settle()
	e.inStep("users:*", usersPromise)
	// And each by itself.
	for _, a := range alterations {
		e.exec("select freshet.alter_sink('users', " + a.arguments + ")")
		e.changed("users")
		e.settle()
		e.inStep("users:*", a.promise)
		if ms := e.redis.PTTL(t.Context(), "users:3").Val(); (ms > 0) != strings.HasPrefix(a.name, "expiry") {
			t.Errorf("after %s users:3 has %s to live", a.name, ms)
		}
	}
	if c := one[string](e, "select coverage from freshet.sinks"); c != "full" {
		t.Errorf("coverage is %s", c)
	}
}

// A sink is altered before a worker has followed the new name of a column of its key.
func TestSinkIsAlteredRightAfterARename(t *testing.T) {
	e := newEnv(t)
	e.exec("create table goods (id bigint primary key, owner int, name text); create index on goods (owner)")
	e.exec("insert into goods select g, g % 7, 'n' || g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('goods', 'goods')")
	e.exec("select freshet.create_sink('owners', 'goods', key => 'owners:${owner}', value => 'count(*)')")
	stop := e.start()
	e.lastBackfill("goods")
	e.lastBackfill("owners")
	e.settle()
	stop()
	id := one[int](e.admin(), "select id from freshet.sink where name = 'goods'")
	e.exec("alter table goods rename id to uid; alter table goods rename owner to of")
	e.exec("select freshet.alter_sink('goods', filter => 'uid > 3')")
	e.exec("select freshet.alter_sink('goods', key => 'goods:${uid}', filter => 'uid > 4')")
	e.exec("select freshet.alter_sink('owners', filter => 'uid > 5')")
	e.exec("update goods set name = name || 'x' where uid % 2 = 0; delete from goods where uid = 50")
	if now := one[int](e.admin(), "select id from freshet.sink where name = 'goods'"); now != id {
		t.Errorf("another sink took the place of the one that was altered")
	}
	e.start()
	e.follow("goods:*", "select 'goods:' || uid, to_jsonb(g)::text from goods g where uid > 4")
	e.follow("owners:*", "select 'owners:' || of, count(*)::text from goods where uid > 5 group by of")
	e.exec("alter table goods rename uid to id")
	e.exec("alter table goods drop column of")
	e.refused("has no column \"of\"", "select freshet.alter_sink('owners', filter => 'true')")
}

// An index that makes each key one row's does not change what a sink is that has groups.
func TestGroupsStayGroupsWithAUniqueIndex(t *testing.T) {
	e := newEnv(t)
	e.exec("create table orders (id bigint primary key, owner int, state text); create index on orders (owner)")
	e.exec("insert into orders select g, g, 'open' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('orders', 'orders', key => 'orders:${owner}', value => 'count(*)')")
	e.start()
	e.lastBackfill("orders")
	e.settle()
	e.exec("create unique index on orders (owner)")
	e.exec("insert into orders values (100, 100, 'open'), (101, 101, 'closed')")
	e.exec("select freshet.alter_sink('orders', filter => 'state = ''open''')")
	e.follow("orders:*", "select 'orders:' || owner, '1' from orders where state = 'open'")
	e.exec("update orders set state = 'closed' where id = 7; update orders set owner = 1000 where id = 8")
	e.follow("orders:*", "select 'orders:' || owner, '1' from orders where state = 'open'")
	if got := e.list("select entry || ' ' || content from freshet.preview('orders', rows => 1)"); len(got) != 1 || got[0] != "orders:1 1" {
		t.Errorf("the preview shows %q", got)
	}
	// With another value it is what a new one would be.
	e.refused("value: it has an aggregate, and each row has a key", "select freshet.alter_sink('orders', value => 'max(id)')")
	e.exec("select freshet.alter_sink('orders', value => 'state')")
	e.follow("orders:*", "select 'orders:' || owner, state from orders where state = 'open'")
}

// A value and a transform give way to each other only when that is said.
func TestValueAndTransformGiveWayByName(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('v', 'users', key => 'v:${id}', value => 'name')")
	e.exec("select freshet.create_sink('t', 'users', key => 't:${id}', transform => 'record.name', columns => '{id,name}')")
	for _, r := range []struct{ says, arguments string }{
		{"transform: the sink has a value, which says what the entry is already (SQLSTATE 22023)\nHINT: To give that up, add reset => '{value}'", "'v', transform => 'record.name'"},
		{"columns: the sink has a value, which says what the entry is already (SQLSTATE 22023)\nHINT: To give that up, add reset => '{value}'", "'v', columns => '{id}'"},
		{"value: the sink has a transform, which says what the entry is already (SQLSTATE 22023)\nHINT: To give that up, add reset => '{transform}'", "'t', value => 'id'"},
		{"HINT: Give one of the two", "'t', value => 'id', transform => 'record.id'"},
		{"HINT: Give one of the two", "'v', value => 'id', columns => '{id}'"},
	} {
		e.refused(r.says, "select freshet.alter_sink("+r.arguments+")")
	}
	e.exec("select freshet.alter_sink('v', transform => 'record.name', columns => '{name}', reset => '{value}')")
	e.exec("select freshet.alter_sink('t', value => 'name', reset => '{transform}')")
	want := []string{"t value name", "v transform record.name of {name}"}
	if got := e.list("select sink || coalesce(' value ' || value, '') || coalesce(' transform ' || transform, '') || coalesce(' of ' || columns::text, '') from freshet.sinks order by 1"); !slices.Equal(got, want) {
		t.Errorf("the sinks are %q, want %q", got, want)
	}
}

// changed waits until a sink that was changed is warm and swept.
func (e *env) changed(sink string) {
	e.t.Helper()
	e.await(sink+" is warmed and swept", func() bool {
		return one[bool](e, `select not exists (select from freshet.backfills where sink = $1 and state in ('queued', 'running', 'sweeping'))
			and not exists (select from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = $1 and l.kind = 'sweep' and l.finished_at is null)`, sink)
	})
}

// gone waits until nothing is left of what a sink had.
func (e *env) gone(sink string) {
	e.t.Helper()
	e.await("what "+sink+" had is removed", func() bool {
		return one[bool](e, `select not exists (select from freshet.status where sink like $1 || '~%' or sink = $1 and state = 'dropping')
			and not exists (select from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = $1 and l.closing)`, sink)
	})
}

// Entries under an old key are right for as long as they are there: what changes goes first.
func TestAlteredKeyLeavesNoStaleEntry(t *testing.T) {
	e := newEnv(t)
	const rows = 20_000
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, $1::int) g", rows)
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.start()
	e.lastBackfill("counters")
	e.settle()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer stop()
	wg.Go(func() {
		draw := rand.New(rand.NewPCG(9, 9))
		for ctx.Err() == nil {
			if _, err := e.db.Exec(t.Context(), "update counters set version = version + 1 where id % 100 = $1", draw.IntN(100)); err != nil && ctx.Err() == nil {
				t.Errorf("write: %v", err)
				return
			}
			time.Sleep(20 * time.Millisecond) // so that lanes are never far behind
		}
	})
	// Whoever reads an old entry finds nothing older than what was there some time ago.
	wg.Go(func() {
		const patience = 3 * time.Second
		draw := rand.New(rand.NewPCG(8, 8))
		compared := 0
		defer func() {
			if compared == 0 {
				t.Error("no entry was compared")
			}
		}()
		for ctx.Err() == nil {
			id := 1 + draw.IntN(rows)
			var then int64
			if err := e.db.QueryRow(ctx, "select version from counters where id = $1", id).Scan(&then); err != nil {
				if ctx.Err() == nil {
					t.Errorf("read a row: %v", err)
				}
				return
			}
			for begun := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
				value, err := e.redis.Get(ctx, fmt.Sprintf("counters:%d", id)).Result()
				if err != nil && !errors.Is(err, redis.Nil) && ctx.Err() == nil {
					t.Errorf("read an entry: %v", err)
					return
				}
				if err != nil {
					break
				}
				if compared++; version(value) >= then {
					break
				}
				if time.Since(begun) > patience {
					t.Errorf("counters:%d is %s, and was %d %s ago", id, value, then, patience)
					return
				}
			}
		}
	})
	// The removal takes long: somebody else has the purge's lease for a while.
	e.admin().transaction("select freshet.alter_sink('counters', key => 'versions:${id}')",
		"update freshet.lease set holder = 'somebody', heartbeat_at = clock_timestamp() + interval '1 hour' where kind = 'purge'")
	e.lastBackfill("counters")
	if n := one[int](e, "select count(*) from freshet.status where sink like 'counters~%' and state = 'dropping'"); n != 1 {
		t.Errorf("status shows %d sinks that go", n)
	}
	left := len(e.redis.Keys(t.Context(), "counters:*").Val())
	if left == 0 {
		t.Error("nothing was left to look at")
	}
	e.await("what changes goes", func() bool { return len(e.redis.Keys(t.Context(), "counters:*").Val()) < left-1000 })
	e.admin().exec("select freshet.release_lease(id, epoch) from freshet.lease where kind = 'purge'")
	e.gone("counters")
	stop()
	e.settle()
	e.inStep("versions:*", "select 'versions:' || id, to_jsonb(c)::text from counters c")
	for _, pattern := range []string{"counters:*", "freshet:*:owner"} {
		keys := e.redis.Keys(t.Context(), pattern).Val()
		if want := map[string]int{"counters:*": 0, "freshet:*:owner": 1}[pattern]; len(keys) != want {
			t.Errorf("%d keys %s are left, want %d: %v", len(keys), pattern, want, keys[:min(len(keys), 5)])
		}
	}
}

// New keys that could be old ones wait until those are gone.
func TestAlteredKeyThatOverlapsWaits(t *testing.T) {
	e := newEnv(t)
	e.exec("create table users (id bigint primary key, email text not null unique)")
	e.exec("insert into users select g, 'User' || g from generate_series(1, 500) g; create unique index on users (lower(email))")
	e.exec("select freshet.create_sink('users', 'users', key => 'u:${email}')")
	e.start()
	e.lastBackfill("users")
	e.exec("select freshet.alter_sink('users', key => 'u:${email|lower}')")
	e.gone("users")
	e.exec("update users set email = 'UPPER' where id = 7")
	e.lastBackfill("users")
	e.settle()
	e.inStep("u:*", "select 'u:' || lower(email), to_jsonb(u)::text from users u")
	// From rows to groups and back.
	// Told to take over what it finds, it waits all the same: nobody else would remove that.
	e.admin().transaction("select freshet.alter_sink('users', key => 'u:${id}', adopt => true)",
		"update freshet.lease set holder = 'somebody', heartbeat_at = clock_timestamp() + interval '1 hour' where kind = 'purge'")
	e.await("it waits", func() bool {
		return one[bool](e, "select exists (select from freshet.status where sink = 'users' and state = 'blocked')")
	})
	e.admin().exec("select freshet.release_lease(id, epoch) from freshet.lease where kind = 'purge'")
	e.gone("users")
	e.lastBackfill("users")
	e.settle()
	e.inStep("u:*", "select 'u:' || id, to_jsonb(u)::text from users u")
	e.exec("alter table users add column team int default 1; update users set team = id % 7; create index on users (team)")
	e.exec("select freshet.alter_sink('users', key => 'teams:${team}', value => 'jsonb_agg(id order by id)')")
	e.gone("users")
	e.lastBackfill("users")
	e.settle()
	e.inStep("teams:*", "select 'teams:' || team, jsonb_agg(id order by id)::text from users group by team")
	e.inStep("u:*", "select '', '' where false")
	e.exec("select freshet.alter_sink('users', reset => '{key,value}')")
	e.gone("users")
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", `select 'users:' || id, to_jsonb(u)::text from users u`)
}

func TestSinkMovesBetweenTargets(t *testing.T) {
	e := newEnv(t)
	there := *e
	other := &there
	other.redisURL = serverstest.Redis(t)
	other.redis = newRedis(t, other.redisURL)
	e.targets = map[string]string{"default": e.redisURL, "other": other.redisURL}
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users', shards => 2)")
	e.start()
	e.lastBackfill("users")
	e.settleTargets("default")
	e.inStep("users:*", usersPromise)
	// While a backfill is on its way that knows nothing of it.
	e.exec("select freshet.backfill('users', rate => 1000)")
	e.exec("select freshet.alter_sink('users', targets => '{default,other}')")
	e.lastBackfill("users")
	e.exec("update users set name = 'y' where id % 2 = 0")
	e.settleTargets("default", "other")
	e.inStep("users:*", usersPromise)
	other.inStep("users:*", usersPromise)
	e.exec("select freshet.alter_sink('users', targets => '{other}')")
	e.exec("update users set name = 'z' where id % 3 = 0")
	e.gone("users")
	e.inStep("users:*", "select '', '' where false")
	e.changed("users")
	e.settleTargets("other")
	other.inStep("users:*", usersPromise)
	for _, key := range e.redis.Keys(t.Context(), "freshet:*").Val() {
		// Those of ranges that are over expire.
		if ttl := e.redis.TTL(t.Context(), key).Val(); key != "freshet:owners" && ttl <= 0 {
			t.Errorf("left on the target: %s", key)
		}
	}
	e.exec("select freshet.alter_sink('users', reset => '{targets}')")
	e.lastBackfill("users")
	e.settleTargets("default")
	e.inStep("users:*", usersPromise)
}

// A target that will not come back keeps neither a sink that was dropped nor its name and keys.
func TestTargetThatIsGoneForGoodIsForgotten(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 100) g")
	there := *e
	other := &there
	other.redisURL = serverstest.Redis(t)
	other.redis = newRedis(t, other.redisURL)
	e.targets = map[string]string{"default": e.redisURL, "other": other.redisURL}
	stop := e.start()
	for _, name := range []string{"users", "people"} {
		e.exec("select freshet.create_sink($1, 'users', key => $1 || ':${id}', targets => '{default,other}')", name)
		e.lastBackfill(name)
	}
	e.settleTargets("default", "other")
	e.refused("removes what is there", "select freshet.forget_target('users', 'other')")
	stop()

	e.targets = map[string]string{"default": e.redisURL}
	e.exec("update freshet.worker set heartbeat_at = '-infinity'")
	e.start()
	e.refused("nothing of the sink", "select freshet.forget_target('users', 'other')")
	e.exec("select freshet.backfill('people')")
	e.exec("select freshet.drop_sink('users')")
	e.exec("select freshet.alter_sink('people', targets => '{default}')")
	e.await("its entries are gone where there is a worker", func() bool { return len(e.redis.Keys(t.Context(), "users:*").Val()) == 0 })
	e.await("status says what to do", func() bool {
		return one[int](e, `select count(*) from freshet.status
			where target = 'other' and last_error like format('%%select freshet.forget_target(''%s'', ''other'')', sink)`) == 2
	})
	create := "select freshet.create_sink('users', 'users', key => 'users:${id}')"
	e.refused("there is a sink \"users\" already", create)
	for _, name := range []string{"users", "people"} {
		e.exec("select freshet.forget_target($1, 'other')", name)
	}
	e.await("nothing is left of it", func() bool { return one[bool](e, "select not exists (select from freshet.sinks where sink = 'users')") })
	e.exec(create)
	e.lastBackfill("users")
	e.lastBackfill("people")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("people:*", "select 'people:' || id, to_jsonb(u)::text from users u")
	if left := e.list("select distinct target from freshet.status where target <> 'default'"); len(left) > 0 {
		t.Errorf("left in status: %q", left)
	}

	// It came back all the same.
	e.targets = map[string]string{"default": e.redisURL, "other": other.redisURL}
	e.start()
	e.await("what it has is removed", func() bool {
		return len(other.redis.Keys(t.Context(), "users:*").Val())+len(other.redis.Keys(t.Context(), "people:*").Val()) == 0
	})
}

// A chunk of the definition before that is read while the sink is altered, by a backfill that
// has not begun when it is asked for again, is not taken for one of the new definition.
func TestChunkOfTheDefinitionBeforeDoesNotCount(t *testing.T) {
	e := newEnv(t)
	e.exec("create table goods (id bigint primary key, n int)")
	// Where the worker stops while it plans.
	e.exec(`create function gate() returns boolean language plpgsql immutable as $$ begin
		if current_user = 'app_worker' then perform pg_advisory_xact_lock_shared(77); end if; return true; end $$`)
	e.exec("insert into goods select g, g from generate_series(1, 200) g; analyze goods")
	e.exec("select freshet.create_sink('s', 'goods', key => 's:${id}', filter => 'gate() and n >= 0')")
	e.start()
	e.lastBackfill("s")
	e.settle()
	gate := e.session()
	if _, err := gate.Exec(t.Context(), "select pg_advisory_lock(77)"); err != nil {
		t.Fatal(err)
	}
	e.exec("select freshet.alter_sink('s', transform => '{n: record.n}')")
	e.await("the first chunk is about to be read", func() bool {
		return one[bool](e.admin(), `select exists (select from pg_stat_activity where wait_event = 'advisory' and datname = current_database()
			and query like '%offset $1::bigint%')`)
	})
	tx := e.begin()
	e.in(tx, "select freshet.alter_sink('s', transform => 'string(record.n)')")
	if _, err := gate.Exec(t.Context(), "select pg_advisory_unlock(77)"); err != nil {
		t.Fatal(err)
	}
	e.await("the chunk is read, and waits to be recorded", func() bool {
		return e.locked("freshet.next_chunk")
	})
	e.commit(tx)
	e.lastBackfill("s")
	e.settle()
	e.settle()
	e.inStep("s:*", "select 's:' || id, n::text from goods")
}

// A re-warm after something was missed is not ended before its end: not by hand, and not by a definition that asks for
// none. Its entries have the new form then.
func TestRewarmThatRepairsIsNotCancelled(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	e.mended()
	e.lastBackfill("users")
	stop()
	e.exec("alter table users disable trigger user; update users set name = 'missed' where id = 7; alter table users enable trigger user")
	e.exec("select freshet.mend(1)")
	run := one[int64](e, "select id from freshet.backfills where state = 'queued'")
	e.refused("is not cancelled", "select freshet.cancel_backfill($1)", run)
	e.exec("select freshet.alter_sink('users', columns => '{id,name}', backfill => false)")
	if state := one[string](e, "select state from freshet.backfills where id = $1", run); state != "queued" {
		t.Errorf("it is %s", state)
	}
	e.start()
	e.follow("users:*", "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from users")

	// One that only gives entries a new form is.
	e.lastBackfill("users")
	e.settle()
	e.exec("select freshet.alter_sink('users', columns => '{id}', max_rate => 1)")
	e.exec("select freshet.cancel_backfill((select max(id) from freshet.backfills))")
}
