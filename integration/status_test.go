package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestStatusSaysWhatStandsInTheWay(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.redis.Set(t.Context(), "users:5", "theirs", 0)
	e.exec("select freshet.create_sink('users', 'users', shards => 2)")
	e.exec("select freshet.create_sink('active', 'users', key => 'active:${id}', columns => '{id}', filter => 'active')")
	e.exec("select freshet.create_sink('far', 'users', key => 'far:${id}', targets => '{nowhere}')")
	e.start()
	e.exec("alter table users drop column active")
	says := func(lines ...string) {
		t.Helper()
		var stdout string
		e.await(strings.Join(lines, "; "), func() bool {
			stdout, _, _ = e.freshet("status")
			for _, line := range lines {
				if strings.Count("\n"+stdout, "\n"+line) != 1 {
					return false
				}
			}
			return true
		})
		// What is so now is not of some time ago.
		if strings.Contains(stdout, " ago: ") {
			t.Errorf("status says\n%s", stdout)
		}
	}
	says("users on default: 1 keys of the form users:${id} are there already and not from this sink",
		"active on default: ", "far on nowhere: no worker serves target nowhere")
	for sink, state := range map[string]string{"users": "blocked", "active": "failing", "far": "unserved"} {
		if got := one[string](e, "select string_agg(distinct state || ' ' || (last_error_at is null), ', ') from freshet.status where sink = $1", sink); got != state+" true" {
			t.Errorf("%s: state and whether it has no time: %s", sink, got)
		}
	}
	e.exec("select freshet.drop_sink('far')")
	says("far on nowhere: no worker serves target nowhere, from which it is still to be removed")
}

// A re-warm that sets wrong entries right is not over before entries without a row are gone.
func TestSinkIsNotLiveBeforeItsRewarmIsSwept(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	stop()
	e.redis.Set(t.Context(), "users:4711", "orphan", 0)
	e.admin().exec("select freshet.rewarm_target(id, 'default', true) from freshet.sink")

	// The sweep waits for its lease, of which nothing else wants this row.
	held, err := e.super.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(t.Context())
	if _, err := held.Exec(t.Context(), "select from freshet.lease where kind = 'sweep' and finished_at is null for update"); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.await("all rows are written", func() bool {
		return one[bool](e, "select state not in ('queued', 'running') from freshet.backfills order by id desc limit 1")
	})
	if got := one[string](e, "select state from freshet.backfills order by id desc limit 1"); got != "sweeping" {
		t.Errorf("the backfill is %s", got)
	}
	const state = "select state from freshet.status"
	e.await("its lane has come to the end", func() bool {
		return one[bool](e, "select coalesce(as_of > now() - interval '5 seconds', false) from freshet.status")
	})
	if got := one[string](e, state); got != "rewarming" {
		t.Errorf("while it is still to be swept the state is %s", got)
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.await("it is live", func() bool { return one[string](e, state) == "live" })
	e.backfilled(one[int64](e, "select max(id) from freshet.backfills"))
	e.settle()
	e.inStep("users:*", usersPromise)
}

// The sweep of a target that a sink leaves is not waited for.
func TestBackfillDoesNotWaitForTheSweepOfATargetThatIsLeft(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,eu}', backfill => false)")
	e.admin().exec(`insert into freshet.backfill_run (sink_id, reason, state, needed) select id, 'rewarm', 'sweeping', true from freshet.sink`)
	e.admin().exec("select freshet.sweep_target(id, 'eu', pg_current_snapshot()) from freshet.sink")
	const state = "select string_agg(state, ', ') from freshet.backfills"
	if got := one[string](e, state); got != "sweeping" {
		t.Fatalf("the backfill is %s", got)
	}
	e.exec("select freshet.alter_sink('users', targets => '{default}', backfill => false)")
	if got := one[string](e, state); got != "completed" {
		t.Errorf("the backfill is %s, and %s", got, fmt.Sprint(one[[]string](e, "select array_agg(kind) from freshet.lease")))
	}
}

func TestWatchedStatusGoesOnAfterAnError(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	p := e.process("status", "--watch")
	shown := func() int { return strings.Count(p.stdout.String(), "users") }
	e.await("status is shown twice", func() bool { return shown() >= 2 })
	connect := func(allowed bool) {
		t.Helper()
		e.admin().exec("update pg_database set datallowconn = $1 where datname = current_database()", allowed)
	}
	defer connect(true)
	connect(false)
	e.admin().exec("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", p.name)
	e.await("it says that it cannot read", func() bool {
		return strings.Contains(p.stderr.String(), "freshet status: read status: ")
	})
	connect(true)
	before := shown()
	e.await("it is shown again", func() bool { return shown() > before })

	// Ctrl-C ends it, whatever it waits for.
	held, err := e.super.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(t.Context())
	if _, err := held.Exec(t.Context(), "lock table freshet.sink in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	e.await("it waits for Postgres", func() bool { return e.locked("freshet.status") })
	p.signal(syscall.SIGINT)
	if status := p.wait(patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
