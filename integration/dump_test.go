package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// dumped is an env whose Redis can go back to an earlier dump.
type dumped struct {
	*env
	server *servers.Redis
	file   string
}

func newDumped(t *testing.T) *dumped {
	t.Helper()
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	d := &dumped{env: newEnvOn(t, serverstest.Postgres(t), server.URL()), server: server}
	dir, err := d.redis.ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	d.file = filepath.Join(dir["dir"], "dump.rdb")
	d.exec(usersTable)
	d.exec("insert into users (id, name) select g, 'user' from generate_series(1, 5000) g")
	return d
}

// save keeps what is in Redis now for goBack.
func (d *dumped) save() {
	d.t.Helper()
	if err := d.redis.Save(d.t.Context()).Err(); err != nil {
		d.t.Fatal(err)
	}
}

// goBack restarts Redis from the file of the last save.
func (d *dumped) goBack() {
	d.t.Helper()
	if err := d.server.Kill(); err != nil {
		d.t.Fatal(err)
	}
	if err := d.server.Restart(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Remove(d.file); err != nil {
		d.t.Fatal(err)
	}
}

// forget removes entries by hand, and nothing else.
func (d *dumped) forget(pattern string) {
	d.t.Helper()
	keys, err := d.redis.Keys(d.t.Context(), pattern).Result()
	if err == nil && len(keys) > 0 {
		err = d.redis.Del(d.t.Context(), keys...).Err()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// awaitInStep waits for what Freshet notices by itself.
func (d *dumped) awaitInStep() {
	d.t.Helper()
	d.await("every entry is right again", func() bool { return len(d.difference("users:*", usersPromise)) == 0 })
}

// What a backfill wrote are no changes: a cursor that goes back does not bring it again.
func TestOldDumpFromBeforeABackfillIsWarmedAgain(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(d *dumped){
		"at once":          func(*dumped) {},
		"after changes":    func(d *dumped) { d.exec("update users set name = 'changed' where id <= 10"); d.settle() },
		"under a new lane": func(d *dumped) { d.exec("select freshet.alter_sink('users', shards => 2)"); d.settle() },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDumped(t)
			d.exec("select freshet.create_sink('users', 'users')")
			d.start()
			d.settle()
			// As in the midst of a re-warm after a loss: the control key is there, and few entries.
			d.forget("users:*")
			d.save()
			d.exec("select freshet.backfill('users')")
			d.settle()
			d.inStep("users:*", usersPromise)
			between(d)

			d.goBack()
			d.awaitInStep()
		})
	}
}

// What the target says after it went back is of other lanes: one of them may have been
// behind the others, with tuples that are another's now.
func TestOldDumpFromBeforeAChangeOfShardsIsWarmedAgain(t *testing.T) {
	d := newDumped(t)
	ctx := t.Context()
	d.exec("select freshet.create_sink('users', 'users', shards => 2)")
	stop := d.start()
	d.settle()
	stop()
	// The dump is of a moment when lane 0 had passed a change and lane 1 had not.
	d.exec("update users set name = 'changed'")
	key := one[string](d.env, "select format('freshet:%s:%s:0', i.id, s.id) from freshet.installation i, freshet.sink s")
	was, err := d.redis.HGet(ctx, key, "cursor").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, cursor := range []string{one[string](d.admin(), "select freshet.cursor_now()::text"), was} {
		if err := d.redis.HSet(ctx, key, "cursor", cursor).Err(); err != nil {
			t.Fatal(err)
		}
		if cursor != was {
			d.save()
		}
	}

	d.exec("select freshet.alter_sink('users', shards => 1)")
	d.start()
	d.settle()
	d.inStep("users:*", usersPromise)
	d.goBack()
	d.awaitInStep()
}

// A sink of the same name and keys that was dropped since had other entries, some of them of
// rows that are gone.
func TestOldDumpFromBeforeASinkLeavesNoEntryOfItsPredecessor(t *testing.T) {
	d := newDumped(t)
	d.exec("select freshet.create_sink('users', 'users')")
	d.start()
	d.settle()
	d.save()
	d.exec("select freshet.drop_sink('users')")
	d.await("the sink is gone", func() bool { return one[int](d.env, "select count(*) from freshet.sinks") == 0 })
	d.exec("delete from users where id > 4000")
	d.exec("select freshet.create_sink('users', 'users')")
	d.settle()
	d.inStep("users:*", usersPromise)

	d.goBack()
	d.awaitInStep()
}

// What the key says then is the window that the lane has been through already.
func TestTargetThatGoesBackIntoATruncatedWindowIsSweptAgain(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.start()
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.settle()
	keys := e.redis.Keys(ctx, "users:*").Val()
	key := one[string](e.admin(), "select format('freshet:%s:1:0', id) from freshet.installation")
	before := e.redis.HGet(ctx, key, "cursor").Val()
	// As if it was evicted: the first sweep touches nothing, and so nothing is looked at again.
	if err := e.redis.Del(ctx, keys...).Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("truncate users")
	var window string
	e.await("a sweep is asked for", func() bool {
		window = one[string](e.admin(), "select coalesce(max(cursor), '') from freshet.lease where kind = 'sweep'")
		return window != ""
	})
	e.await("it is over", func() bool {
		return one[bool](e.admin(), "select not exists (select from freshet.lease where kind = 'sweep' and finished_at is null)")
	})
	e.settle()
	e.asleep()

	// As from a dump of when the window was begun.
	_, err := e.redis.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, k := range keys {
			pipe.Set(ctx, k, "of before", 0)
		}
		pipe.HSet(ctx, key, "cursor", before+" "+window+" 3 0")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.await("the entries are swept again", func() bool { return len(e.redis.Keys(ctx, "users:*").Val()) == 0 })
}

// A target that goes back in time has entries again that were removed from it, with nobody to
// write or sweep them any more.
func TestOldDumpBringsNoEntriesBackThatWereRemoved(t *testing.T) {
	t.Parallel()
	count := func(d *dumped, pattern string) int {
		keys, err := d.redis.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	gone := func(d *dumped) {
		d.await("what is removed is gone", func() bool {
			return one[int](d.env, "select count(*) from freshet.status where state = 'dropping'") == 0 && count(d, "users:*") == 0
		})
	}
	for name, c := range map[string]struct {
		remove []string
		// left is how many entries there are in the end, by their pattern.
		pattern string
		left    int
	}{
		"of a sink that was dropped":             {[]string{"select freshet.drop_sink('users')"}, "users:*", 0},
		"of a sink with shards that was dropped": {[]string{"select freshet.alter_sink('users', shards => 3)", "select freshet.drop_sink('users')"}, "users:*", 0},
		"by another template":                    {[]string{"select freshet.alter_sink('users', key => 'people:${id}')"}, "people:*", 5000},
		"on a target that the sink has left":     {[]string{"select freshet.alter_sink('users', targets => '{other}')"}, "users:*", 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDumped(t)
			d.targets = map[string]string{"other": serverstest.Redis(t)}
			d.exec("select freshet.create_sink('users', 'users')")
			d.start()
			d.settle()
			d.save()
			for _, sql := range c.remove {
				d.exec(sql)
				d.settleTargets("default", "other")
			}
			gone(d)

			d.goBack()
			d.await("they are removed again", func() bool { return count(d, "users:*") == 0 })
			gone(d)
			d.await("the rest is right", func() bool { return count(d, c.pattern) == c.left })
			d.await("nobody owns what is gone", func() bool {
				return d.redis.HLen(t.Context(), "freshet:owners").Val() == int64(min(c.left, 1))
			})
		})
	}
}

// Entries that were to stay when their sink was dropped stay.
func TestOldDumpOfEntriesThatWereKeptIsLeftAlone(t *testing.T) {
	d := newDumped(t)
	d.exec("select freshet.create_sink('users', 'users')")
	d.start()
	d.settle()
	d.save()
	d.exec("select freshet.drop_sink('users', keep_entries => true)")
	d.await("the sink is gone", func() bool { return one[int](d.env, "select count(*) from freshet.sinks") == 0 })
	if n := one[int](d.env, "select count(*) from freshet.removed"); n != 0 {
		t.Errorf("%d sinks are on record as removed", n)
	}
	d.goBack()
	d.exec("select freshet.create_sink('others', 'users', key => 'others:${id}')")
	d.settle()
	if n := d.redis.Exists(t.Context(), "users:1", "users:5000").Val(); n != 2 {
		t.Errorf("%d of two entries are there", n)
	}
}
