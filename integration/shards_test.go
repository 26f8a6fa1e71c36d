package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/source"
)

// lanes counts the lanes of a sink.
func (e *env) lanes(sink string) int {
	return one[int](e, "select count(*) from freshet.status where sink = $1", sink)
}

func TestShardsShareTheKeysOfASink(t *testing.T) {
	e := newEnv(t)
	e.exec("create table prices (code numeric, region text, name text, primary key (code, region))")
	e.exec("create unique index on prices (lower(region), code)")
	e.exec("insert into prices select g / 4.0, 'Region ' || g, 'price' from generate_series(1, 2000) g")
	e.exec("select freshet.create_sink('prices', 'prices', shards => 4)")
	e.exec("select freshet.create_sink('folded', 'prices', key => 'folded:${region|lower|url}:${code}', shards => 3)")
	if n, m := e.lanes("prices"), e.lanes("folded"); n != 4 || m != 3 {
		t.Fatalf("%d and %d lanes", n, m)
	}
	const promise = "select 'prices:' || code || ':' || replace(region, ' ', '%20'), to_jsonb(p)::text from prices p"
	const folded = "select 'folded:' || replace(lower(region), ' ', '%20') || ':' || code, to_jsonb(p)::text from prices p"
	inStep := func() {
		t.Helper()
		e.settle()
		e.inStep("prices:*", promise)
		e.inStep("folded:*", folded)
	}
	e.start()
	inStep()
	// Equal in SQL and another key: both are looked at, whichever lane each belongs to.
	e.exec("update prices set code = code::numeric(20,6), region = upper(region) where code < 100")
	e.exec("delete from prices where code > 300; insert into prices select g, 'New', 'price' from generate_series(1, 500) g")
	inStep()
	e.exec("truncate prices; insert into prices values (1, 'after', 'x')")
	inStep()
	for _, sink := range []string{"prices", "folded"} {
		if stdout, stderr, status := e.freshet("verify", sink); status != 0 {
			t.Errorf("verify %s: %s%s", sink, stdout, stderr)
		}
	}
}

// Each changed key is claimed by one lane and by no other.
func TestShardsPartTheKeysAmongThem(t *testing.T) {
	e := newEnv(t)
	const shards = 5
	e.exec("create table prices (code numeric, region text, primary key (region, code))")
	e.exec("select freshet.create_sink('prices', 'prices', shards => $1)", shards)
	start := e.firstCursor()
	e.exec("insert into prices select g / 8.0, 'r' || g % 7 from generate_series(1, 1000) g")
	sink, err := catalog.LoadSinkNamed(t.Context(), newPool(t, e.workerURL), "prices")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for shard := range shards {
		reader := newReader(t, newPool(t, e.workerURL), sink, shard)
		var entries source.Entries
		if _, err := reader.Claim(t.Context(), start, 5000, &entries); err != nil {
			t.Fatal(err)
		}
		if n := entries.Len(); n < 1000/shards/2 || n > 1000/shards*2 {
			t.Errorf("shard %d has %d of 1000 keys", shard, n)
		}
		for i := range entries.Len() {
			seen[string(entries.Key(i))]++
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d keys were claimed, want 1000", len(seen))
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed by %d lanes", key, n)
		}
	}
}

// What no lane had applied yet when the shards were changed, the new lanes apply.
func TestPendingChangesOutliveAChangeOfShards(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	for n, shards := range []int{4, 3, 1, 8} {
		stop := e.start()
		e.settle()
		stop()
		e.exec("update counters set version = version + 1 where id % 4 = 0")
		e.exec("delete from counters where id % 100 = $1", n)
		e.exec("select freshet.alter_sink('counters', shards => $1)", shards)
		e.exec("update counters set version = version + 1 where id % 4 = 1")
		stop = e.start()
		e.settle()
		e.inStep("counters:*", countersPromise("counters"))
		stop()
	}
	if n := one[int](e, "select count(*) from freshet.backfills"); n != 1 {
		t.Errorf("%d backfills: changing the shards is no loss", n)
	}
}

// The keys of a sharded sink are claimed once: what one lane has written is not foreign to
// the others.
func TestLanesOfOneSinkDoNotBlockEachOther(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 20000) g")
	e.start()
	for n := range 5 {
		sink := fmt.Sprintf("users_%d", n)
		e.exec("select freshet.create_sink($1::text, 'users', key => $1 || ':${id}', shards => 8)", sink)
		e.settle()
		if blocked := one[int](e, "select count(*) from freshet.status where state = 'blocked'"); blocked != 0 {
			t.Fatalf("%d lanes are blocked", blocked)
		}
		e.inStep(sink+":*", "select '"+sink+":' || id, to_jsonb(u)::text from users u")
	}
}

func TestShardsChangeWhileTheSinkIsWrittenTo(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.worker()
	e.worker()
	stop := e.load()
	for _, shards := range []int{4, 1, 3, 2, 4, 1} {
		e.exec("select freshet.alter_sink('counters', shards => $1)", shards)
		if n := e.lanes("counters"); n != shards {
			t.Errorf("%d lanes for %d shards", n, shards)
		}
		e.awaitVersion("counters:1", e.raise())
		e.exec("delete from counters where id = $1", 4000+shards)
	}
	// And without waiting for one to have happened.
	for _, shards := range []int{5, 2, 6, 1, 4} {
		e.exec("select freshet.alter_sink('counters', shards => $1)", shards)
		e.exec("delete from counters where id = $1", 4100+shards)
	}
	stop()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
	if n := one[int](e, "select count(*) from freshet.backfills"); n != 1 {
		t.Errorf("%d backfills: changing the shards is no loss", n)
	}
	e.exec("select freshet.drop_sink('counters')")
	e.settle()
	if keys := e.redis.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}

// What a worker had read for the only shard concerns every key. It is refused though the
// lanes that write those keys now have other control keys.
func TestZombieOfFewerShardsDoesNotWriteTheBatchItHadRead(t *testing.T) {
	z := newZombies(t)
	z.attack(func() {
		for n, sink := range z.sinks {
			z.exec("select freshet.alter_sink($1, shards => $2)", sink, n+2)
		}
	})
}

// The same with the number of shards lowered: lanes that are no more leave nobody behind
// who takes their control keys.
func TestZombieOfMoreShardsDoesNotWriteTheBatchItHadRead(t *testing.T) {
	z := newZombies(t)
	for _, sink := range z.sinks {
		z.exec("select freshet.alter_sink($1, shards => 3)", sink)
	}
	z.settle()
	// The other one must not have any of them.
	z.choose()
	z.processes[1-z.zombie].kill()
	z.await("one worker has every lane", func() bool { return z.holds(z.ids[z.zombie]) })
	z.settle()
	z.attack(func() {
		for _, sink := range z.sinks {
			z.exec("select freshet.alter_sink($1, shards => 1)", sink)
		}
		z.processes[1-z.zombie], z.ids[1-z.zombie] = z.worker()
	})
}

// What the target loses while the shards are changed is noticed, though nobody goes on
// under the control keys that would have shown it.
func TestLossWhileShardsAreChangedIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		from, to int
		// keep is a control key that is not lost.
		keep string
	}{
		{"fewer", 4, 1, ""},
		{"more", 1, 4, ""},
		{"others", 3, 2, ""},
		{"only lanes that are no more", 4, 1, "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(counters)
			e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
			e.exec("select freshet.create_sink('counters', 'counters', shards => $1)", c.from)
			stop := e.start()
			e.settle()
			stop()
			before := e.dump()
			stop = e.start()
			e.exec("update counters set version = version + 1 where id % 2 = 0")
			e.exec("delete from counters where id % 10 = 1")
			e.settle()
			stop()
			e.exec("select freshet.alter_sink('counters', shards => $1)", c.to)
			// A replica that had lagged behind is the master now.
			if c.keep != "" {
				delete(before, fmt.Sprintf("freshet:%s:1:%s", one[string](e, "select id from freshet.installation"), c.keep))
			}
			e.restore(before)
			e.start()
			e.settle()
			e.inStep("counters:*", countersPromise("counters"))

			// And when nothing at all is left.
			stop = e.start()
			e.settle()
			stop()
			e.exec("select freshet.alter_sink('counters', shards => $1)", c.from)
			if err := e.redis.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			e.start()
			e.settle()
			e.inStep("counters:*", countersPromise("counters"))
		})
	}
}

// dump keeps every key as it is now, for restore.
func (e *env) dump() map[string]string {
	e.t.Helper()
	keys, err := e.redis.Keys(e.t.Context(), "*").Result()
	if err != nil {
		e.t.Fatal(err)
	}
	dump := make(map[string]string, len(keys))
	for _, key := range keys {
		if dump[key], err = e.redis.Dump(e.t.Context(), key).Result(); err != nil {
			e.t.Fatal(err)
		}
	}
	return dump
}

// restore puts keys back as they were, all at one moment, as a server does that starts from an old dump; others stay.
func (e *env) restore(dump map[string]string) {
	e.t.Helper()
	ctx := e.t.Context()
	if _, err := e.redis.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for key, value := range dump {
			tx.RestoreReplace(ctx, key, 0, value)
		}
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
}

func TestRewarmObeysTheRateOfItsSink(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users', max_rate => 1000)")
	e.start()
	e.settle()
	const took = "select extract(epoch from finished_at - started_at)::float8 from freshet.backfills where reason = $1 order by id desc limit 1"
	if s := one[float64](e, took, "create"); s > 1.5 {
		t.Errorf("the first backfill took %.1f s: max_rate is for re-warms only", s)
	}
	lose := func() {
		t.Helper()
		if err := e.redis.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		e.await("it is warmed again", func() bool {
			return one[bool](e, "select exists (select from freshet.backfills where reason = 'rewarm' and state <> 'completed')")
		})
	}
	lose()
	e.settle()
	e.inStep("users:*", usersPromise)
	// The first second's rows come at once.
	if s := one[float64](e, took, "rewarm"); s < 1.5 {
		t.Errorf("3000 rows at 1000 a second took %.1f s", s)
	}

	// One that is asked for while another runs comes after it.
	e.admin().exec("select freshet.request_rewarm(1)")
	e.await("it has begun", func() bool {
		return one[bool](e, "select exists (select from freshet.backfills where state = 'running' and rows_done > 0)")
	})
	e.admin().exec("select freshet.request_rewarm(1)")
	e.settle()
	if n := one[int](e, `select count(*) from freshet.backfill_run a join freshet.backfill_run b
		on b.id > a.id and b.reason = a.reason and b.started_at < a.finished_at`); n != 0 {
		t.Error("two re-warms ran at a time")
	}

	// A rate can be taken off while it holds a re-warm up.
	e.exec("select freshet.alter_sink('users', max_rate => 1)")
	lose()
	e.exec("select freshet.alter_sink('users', reset => '{max_rate}')")
	e.settle()
	e.inStep("users:*", usersPromise)
}

// What refused the lanes of long ago and the backfills that are over expires, and is not
// taken for a loss at the next change, nor made anew.
func TestShardsChangeLongAfterTheyChanged(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', shards => 4)")
	e.start()
	e.settle()
	e.exec("select freshet.alter_sink('users', shards => 2)")
	e.settle()
	prefix := "freshet:" + one[string](e, "select id from freshet.installation") + ":1:"
	ttl := func(part string) time.Duration { return e.redis.TTL(t.Context(), prefix+part).Val() }
	e.await("the control keys of the former lanes expire", func() bool { return ttl("2") > 0 && ttl("3") > 0 })
	if ttl("b1") <= 0 {
		t.Errorf("the control key of a finished backfill has the time to live %v", ttl("b1"))
	}
	// Else a lane that was asleep when it ended may not write before its slice ends.
	e.exec("update users set name = 'written'")
	e.await("the lanes have written down that the backfill is over", func() bool {
		for _, part := range []string{"0", "1"} {
			cursor := e.redis.HGet(t.Context(), prefix+part, "cursor").Val()
			if cursor == "" || !one[bool](e, "select pg_visible_in_snapshot(finished_xid, split_part($1, ' ', 1)::pg_snapshot) from freshet.backfill_range", cursor) {
				return false
			}
		}
		// And in Postgres, where new lanes begin: with the next heartbeat.
		return one[bool](e, `select bool_and(pg_visible_in_snapshot(r.finished_xid, split_part(l.cursor, ' ', 1)::pg_snapshot))
			from freshet.backfill_range r, freshet.lease l where l.kind = 'sync'`)
	})
	e.redis.Del(t.Context(), prefix+"2", prefix+"3", prefix+"b1") // ten minutes pass
	e.exec("select freshet.alter_sink('users', shards => 3)")
	e.exec("update users set name = 'changed'")
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int](e, "select count(*) from freshet.backfills"); n != 1 {
		t.Errorf("%d backfills: nothing was lost", n)
	}
	if n := e.redis.Exists(t.Context(), prefix+"3", prefix+"b1").Val(); n != 0 {
		t.Errorf("%d control keys that nobody needs were made again", n)
	}
}

// A sink whose lanes have not all begun has not come anywhere.
func TestChangedShardsDoNotClaimWhatTheSlowestHasNotDone(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', shards => 4)")
	e.admin().exec("update freshet.lease set as_of = now() where kind = 'sync' and part <> '3'")
	e.exec("select freshet.alter_sink('users', shards => 1)")
	if n := one[int](e, "select count(*) from freshet.status where as_of is not null"); n != 0 {
		t.Error("one lane had nothing applied, and status says up to when everything is")
	}
}

// A backfill that ends and whoever changes the sink lock the same rows in the same order.
// Heartbeats wait for nobody.
func TestLocksAreTakenInOneOrder(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', shards => 2)")
	waits := func(sql string, args ...any) (done chan error) {
		t.Helper()
		done = make(chan error, 1)
		go func() {
			_, err := e.db.Exec(t.Context(), sql, args...)
			done <- err
		}()
		e.await("it waits for a lock", func() bool {
			return one[bool](e, "select exists (select from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.query = $1)", sql)
		})
		return done
	}
	end := func(tx pgx.Tx, done chan error, sql string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
			t.Error(err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	lanes := one[[]int64](e, "select array_agg(id order by id) from freshet.lease where kind = 'sync'")
	revision := one[int32](e, "select revision from freshet.sink")
	e.admin().exec("update freshet.lease set holder = 'w' where id = any ($1)", lanes)

	tx := e.begin()
	if _, err := tx.Exec(t.Context(), "select from freshet.lease where id = $1 for update", lanes[0]); err != nil {
		t.Fatal(err)
	}
	// A heartbeat waits for nobody: what is locked is written with the next one.
	type beat struct {
		Lease    int64
		Revision int32
		Written  bool
	}
	beats := func() []beat {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		rows, err := e.db.Query(ctx, `select lease, revision, written
			from freshet.heartbeat('w', '{default}', '{}', $1, '{1,1}', null, null, null, null, null) order by lease`, lanes)
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[beat])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := beats(); !slices.Equal(got, []beat{{lanes[0], revision, false}, {lanes[1], revision, true}}) {
		t.Errorf("beside a lock on the first lane: %v", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	if got := beats(); !slices.Equal(got, []beat{{lanes[0], revision, true}, {lanes[1], revision, true}}) {
		t.Errorf("with nobody there: %v", got)
	}

	tx = e.begin()
	if _, err := tx.Exec(t.Context(), "select from freshet.sink for update"); err != nil {
		t.Fatal(err)
	}
	done := waits("select freshet.finish_lease(id, epoch) from freshet.lease where kind = 'backfill'")
	end(tx, done, "select from freshet.backfill_run for update nowait")

	// As in the middle of freshet.next_chunk.
	tx = e.begin()
	if _, err := tx.Exec(t.Context(), "select from freshet.lease where kind = 'backfill' for update"); err != nil {
		t.Fatal(err)
	}
	done = waits("select freshet.alter_sink('users', columns => '{id,name}')")
	end(tx, done, "select from freshet.backfill_range for update nowait")
}

// A worker that has not heard of a crash yet says how far it had come before.
func TestHeartbeatOfAnotherLifeMovesNoCursor(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	lane := one[int64](e, "select id from freshet.lease where kind = 'sync'")
	e.admin().exec("update freshet.lease set holder = 'w', heartbeat_at = 'epoch' where id = $1", lane)
	life := one[string](e, "select coalesce(freshet.incarnation(), freshet.renew_incarnation())")
	first := one[string](e, "select cursor from freshet.lease where id = $1", lane)
	const later = "900:900: "
	say := func(life *string) {
		t.Helper()
		e.exec(`select from freshet.heartbeat('w', '{default}', '{}', array[$1::bigint], '{1}', array[$2::text], array[$3::text], '{900:900:}', array[now()], '{oops}')`,
			lane, life, later)
	}
	other := "1" + life
	say(&other)
	got := one[string](e, "select concat_ws('|', cursor, passed, as_of, last_error, heartbeat_at > 'epoch') from freshet.lease where id = $1", lane)
	if got != first+"|oops|t" {
		t.Errorf("of another life: %s", got)
	}
	say(&life)
	if got := one[string](e, "select cursor || '|' || passed::text || '|' || (as_of is not null) from freshet.lease where id = $1", lane); got != later+"|900:900:|true" {
		t.Errorf("of this life: %s", got)
	}
}

// The lanes of a new sink come to its target at the same time. One that has to begin twice
// because another came in between has lost nothing.
func TestLaneThatIsRefusedAtItsBeginningHasLostNothing(t *testing.T) {
	e := newEnv(t)
	e.exec("create table prices (id bigint primary key)")
	e.exec("insert into prices select g from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('prices', 'prices', shards => 12)")
	owner := fmt.Sprintf("freshet:%s:%d:owner", one[string](e, "select id from freshet.installation"), one[int](e, "select id from freshet.sink"))
	touched := make(chan error, 1)
	go func() {
		// Whoever writes the owner key as it is breaks what lanes have watched.
		var since time.Time
		for since.IsZero() || time.Since(since) < 500*time.Millisecond {
			done, err := e.redis.SetXX(t.Context(), owner, "prices", 0).Result()
			if err != nil {
				touched <- err
				return
			}
			if done && since.IsZero() {
				since = time.Now()
			}
		}
		touched <- nil
	}()
	e.start()
	if err := <-touched; err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.inStep("prices:*", "select 'prices:' || id, to_jsonb(p)::text from prices p")
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms, though nothing was lost", n)
	}
}
