package integration

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// A target that comes back empty and then refuses every write is tried again and again;
// that must not become a backfill for each try.
func TestRewarmIsAskedForOnceWhileTheTargetRefuses(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()

	// At one moment, so that the lane cannot write its key again in between.
	_, err := e.redis.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.FlushAll(ctx)
		pipe.ConfigSet(ctx, "min-replicas-to-write", "1")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.exec("update users set name = 'while nothing can be written'")
	errorAt := func() *time.Time { return one[*time.Time](e, "select last_error_at from freshet.status") }
	for range 4 {
		before := errorAt()
		e.await("the lane has tried again", func() bool {
			now := errorAt()
			return now != nil && (before == nil || now.After(*before))
		})
	}
	if n := one[int](e, "select count(*) from freshet.backfills where state <> 'completed'"); n > 2 {
		t.Errorf("%d backfills wait for the target; want one and its successor at most", n)
	}
	if err := e.redis.ConfigSet(ctx, "min-replicas-to-write", "0").Err(); err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int](e, "select count(*) from freshet.backfills"); n > 3 {
		t.Errorf("%d backfills for one loss", n)
	}
}

// A lane that has fallen below the floor, and whose target refuses every attempt, has no more sweeps wait than one: each has
// a worker's slot while it waits, and lanes need slots to get on.
func TestSweepsThatWaitAreOne(t *testing.T) {
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.lastBackfill("users")
	if err := e.redis.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("update users set name = 'while nothing can be written'; delete from users where id > 900")
	e.admin().exec("update freshet.source set floor = pg_current_snapshot(); delete from freshet.changes_1")
	for range 6 {
		before := one[*time.Time](e, "select last_error_at from freshet.status")
		e.await("the lane has tried again", func() bool {
			now := one[*time.Time](e, "select last_error_at from freshet.status")
			return now != nil && (before == nil || now.After(*before))
		})
	}
	if n := one[int](e.admin(), "select count(*) from freshet.lease where kind = 'sweep' and finished_at is null"); n != 1 {
		t.Errorf("%d sweeps wait", n)
	}
	if err := e.redis.ConfigSet(t.Context(), "min-replicas-to-write", "0").Err(); err != nil {
		t.Fatal(err)
	}
	e.follow("users:*", usersPromise)
}

// restarter has Redis restarted, with its data, as soon as somebody goes on with a scan.
type restarter struct {
	t       *testing.T
	server  *servers.Redis
	redis   *redis.Client
	restart sync.Once
	done    atomic.Bool
}

var nextScan = regexp.MustCompile(`(?i)\r\nscan\r\n\$\d+\r\n[1-9]`)

func (r *restarter) pass(_ *link, d direction, piece []byte) (on []byte, cut bool) {
	if d != toServer || !nextScan.Match(piece) {
		return piece, false
	}
	r.restart.Do(func() {
		cut = true
		err := r.redis.Save(context.Background()).Err()
		if err == nil {
			err = r.server.Kill()
		}
		if err == nil {
			err = r.server.Restart(context.Background())
		}
		if err != nil {
			r.t.Error(err)
		}
		r.done.Store(true)
	})
	return piece, cut
}

// Where a scan is means nothing to a process that did not say so.
func TestRedisThatIsRestartedUnderASweepKeepsNoOrphan(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	p, through := newProxy(t, server.URL())
	e := newEnvOn(t, serverstest.Postgres(t), through)
	e.redis = newRedis(t, server.URL())
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.lastBackfill("users")
	var orphans []any
	for id := range 20_000 {
		orphans = append(orphans, "users:"+strconv.Itoa(10_000+id), "orphan")
	}
	if err := e.redis.MSet(t.Context(), orphans...).Err(); err != nil {
		t.Fatal(err)
	}
	r := &restarter{t: t, server: server, redis: e.redis}
	p.guarded(r)
	e.exec("select freshet.sweep('users')")
	e.await("Redis was restarted", r.done.Load)
	e.await("the sweep is over", func() bool {
		return one[bool](e.admin(), "select not exists (select from freshet.lease where kind = 'sweep' and finished_at is null)")
	})
	e.settle()
	e.inStep("users:*", usersPromise)
}

// What is asked for because a target has lost something is on disk before the target is told that nothing is missing, and
// what a chunk may write before it does.
func TestRewarmsForATargetAndIntentsAreOnDisk(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	for _, ask := range []string{
		"select freshet.rewarm_target(1, 'default', false)", "select freshet.rewarm_trimmed(1, pg_current_snapshot())", "select freshet.rewarm_lost(1)",
		"select freshet.next_chunk(0, 1, 1, 0, 'none', null, 0, null, pg_current_snapshot())",
	} {
		tx := e.admin().begin()
		e.in(tx, "set local synchronous_commit = off", ask)
		var is string
		if err := tx.QueryRow(t.Context(), "show synchronous_commit").Scan(&is); err != nil {
			t.Fatal(err)
		}
		e.commit(tx)
		if is == "off" {
			t.Errorf("%s commits as if nobody minded", ask)
		}
	}
}

func TestAsOfIsNotAheadOfWhatIsApplied(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.exec("update users set name = 'changed'")
	committed := one[time.Time](e, "select clock_timestamp()")
	e.await("status says that the update is applied", func() bool {
		return one[bool](e, "select as_of >= $1 from freshet.status", committed)
	})
	// What status says has to be true at once.
	e.inStep("users:*", usersPromise)
}

func TestPostgresCrashIsSurvived(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "2s"})
	url, err := server.CreateDatabase(t.Context(), "crash")
	if err != nil {
		t.Fatal(err)
	}
	e := newEnvOn(t, url, serverstest.Redis(t))
	e.exec(usersTable)
	e.exec("insert into users (id, name, price) select g, 'user', 0 from generate_series(1, 2000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	for round := range 3 {
		// Commits that are visible at once and durable only later; some of them are lost.
		for n := range 200 {
			e.exec("update users set price = $1 where id = $2", round*1000+n, 1+n%50)
		}
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.await("Postgres is back", func() bool { return e.db.Ping(t.Context()) == nil })
		// Transaction ids of the lost ones are given out again to these.
		for n := range 50 {
			e.await("the database takes writes", func() bool {
				_, err := e.db.Exec(t.Context(), "update users set price = price + 0.5 where id = $1", 1000+n)
				return err == nil
			})
		}
		e.await("the worker has gone on", func() bool {
			return one[bool](e, "select coalesce(as_of > pg_postmaster_start_time(), false) from freshet.status")
		})
		e.settle()
		e.inStep("users:*", usersPromise)
	}
}

// Two targets, of which one has lost what it had and refuses writes: its lane tries again and
// again, and the other target does not hear of it.
func TestTargetThatRefusesHasNoOtherWrittenWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(ctx context.Context, pipe redis.Pipeliner, prefix string){
		"control key lost": func(ctx context.Context, pipe redis.Pipeliner, prefix string) {
			pipe.Del(ctx, prefix+"0")
		},
		"another server's": func(ctx context.Context, pipe redis.Pipeliner, prefix string) {
			pipe.Set(ctx, prefix+"owner", "users 7.00000002.5", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, nil).URL())
			server := serverstest.RedisServer(t, nil)
			eu := newRedis(t, server.URL())
			e.targets = map[string]string{"eu": server.URL()}
			ctx := t.Context()
			e.exec(usersTable)
			e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 1000) g")
			e.exec("select freshet.create_sink('users', 'users', targets => '{default,eu}')")
			e.start()
			settle := func() {
				t.Helper()
				if err := worker.Settle(ctx, e.db, []string{"default", "eu"}); err != nil {
					t.Fatal(err)
				}
			}
			settle()
			prefix := one[string](e.admin(), "select 'freshet:' || i.id || ':1:' from freshet.installation i")
			_, err := eu.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				lose(ctx, pipe, prefix)
				pipe.ConfigSet(ctx, "min-replicas-to-write", "1")
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			const (
				ranges   = "select count(*) from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id"
				unwarmed = "select count(*) from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id where l.target = 'default' and r.finished_at is null"
			)
			tries := func(n int) {
				t.Helper()
				const at = "select last_error_at from freshet.status where target = 'eu'"
				for range n {
					before := one[*time.Time](e, at)
					e.await("the lane has tried again", func() bool {
						now := one[*time.Time](e, at)
						return now != nil && (before == nil || now.After(*before))
					})
				}
			}
			tries(2)
			e.await("the other target was warmed", func() bool {
				return e.rewarms() > 0 && one[int](e.admin(), unwarmed) == 0
			})
			before, revision := one[int](e.admin(), ranges), one[int](e.admin(), "select revision from freshet.sink")
			sets := func() int64 {
				var n int64
				for _, line := range strings.Split(e.redis.Info(ctx, "commandstats").Val(), "\r\n") {
					if rest, ok := strings.CutPrefix(line, "cmdstat_mset:calls="); ok {
						calls, _, _ := strings.Cut(rest, ",")
						n, _ = strconv.ParseInt(calls, 10, 64)
					}
				}
				return n
			}
			wrote := sets()
			tries(6)
			if n := one[int](e.admin(), ranges); n != before {
				t.Errorf("the ranges went from %d to %d", before, n)
			}
			if n := one[int](e.admin(), "select revision from freshet.sink"); n != revision {
				t.Errorf("the sink's revision went from %d to %d: all its lanes began anew", revision, n)
			}
			if n := sets(); n != wrote {
				t.Errorf("%d more MSETs on the target that lost nothing", n-wrote)
			}
			// A successor asks once more, and only for the target that lost something.
			e.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where kind = 'sync' and target = 'eu'")
			tries(3)
			if n := sets(); n != wrote {
				t.Errorf("%d more MSETs on the target that lost nothing", n-wrote)
			}
			if err := eu.ConfigSet(ctx, "min-replicas-to-write", "0").Err(); err != nil {
				t.Fatal(err)
			}
			settle()
			settle()
			e.inStep("users:*", usersPromise)
			other := *e
			other.redis = eu
			other.inStep("users:*", usersPromise)
		})
	}
}
