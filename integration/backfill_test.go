package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// backfilled waits until backfill n is completed.
func (e *env) backfilled(n int64) {
	e.t.Helper()
	e.await(fmt.Sprintf("backfill %d completes", n), func() bool {
		return one[string](e, "select state from freshet.backfills where id = $1", n) == "completed"
	})
}

// What is timed is not run beside everything else.
func TestBackfillWakesASleepingWorkerAtOnce(t *testing.T) {
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.Redis(t))
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 100) g")
	e.settle()
	var lags []time.Duration
	for range 5 {
		e.redis.Del(t.Context(), "users:7")
		e.asleep()
		began := time.Now()
		e.exec("select freshet.backfill('users')")
		e.appears("users:7")
		lags = append(lags, time.Since(began))
		e.lastBackfill("users") // or the next one would join it
	}
	slices.Sort(lags)
	// A backfill has more to ask before it begins than a lane that wakes up. The poll each
	// second alone would come half a second later still.
	if lag := lags[len(lags)/2]; lag > 2*quick {
		t.Errorf("the median entry came back after %v", lag)
	}
	e.settle()
	e.inStep("users:*", usersPromise)
	if c := one[string](e, "select coverage from freshet.sinks"); c != "full" {
		t.Errorf("coverage is %s", c)
	}
}

func TestBackfillOfATableThatIsWrittenTo(t *testing.T) {
	const rows = 30_000
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, $1::int) g", rows)
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.exec("select freshet.create_sink('active', 'users', key => 'active:${id}', columns => '{id,name}', filter => 'active', backfill => false)")
	e.start()

	done := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			fresh := rows + 1_000_000*(w+1)
			for {
				select {
				case <-done:
					return
				default:
				}
				id := 1 + random.IntN(rows)
				fresh++
				var sql string
				switch random.IntN(6) {
				case 0:
					sql = fmt.Sprintf("insert into users (id, name) values (%d, 'new')", fresh)
				case 1:
					sql = fmt.Sprintf("delete from users where id = %d", id)
				case 2: // away
					sql = fmt.Sprintf("update users set id = %d where id = %d", fresh, id)
				case 3: // over the place that the backfill has come to, either way
					sql = fmt.Sprintf("update users set id = %d - id where id = %d and not exists (select from users where id = %d)", rows+1, id, rows+1-id)
				case 4:
					sql = fmt.Sprintf("update users set active = not active where id between %d and %d", id, id+5)
				default:
					sql = fmt.Sprintf("update users set name = 'changed %d' where id = %d", fresh, id)
				}
				// Two writers can meet at one key: that is their affair.
				if _, err := e.db.Exec(t.Context(), sql); err != nil && !strings.Contains(err.Error(), "SQLSTATE 23505") && !strings.Contains(err.Error(), "SQLSTATE 40P01") {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		a, b := one[int64](e, "select freshet.backfill('users')"), one[int64](e, "select freshet.backfill('active')")
		e.backfilled(a)
		e.backfilled(b)
	}
	close(done)
	writers.Wait()
	e.settle()
	e.inStep("users:*", usersPromise)
	e.inStep("active:*", "select 'active:' || id, jsonb_build_object('id', id, 'name', name)::text from users where active")
}

func TestBackfillGoesOnWhereItWasStopped(t *testing.T) {
	const rows = 200_000
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, $1::int) g", rows)
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.await("the backfill is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") > 4000 })
	stop()
	position := one[[]string](e, "select position from freshet.backfill_range")
	done := one[int64](e, "select rows_done from freshet.backfills")
	if state := one[string](e, "select state from freshet.backfills"); state != "running" || len(position) != 1 || done >= rows {
		t.Fatalf("stopped in state %s at %q after %d rows: not in the middle", state, position, done)
	}
	if position[0] != fmt.Sprint(done) {
		t.Errorf("%d rows are done, and the position is %s", done, position[0])
	}
	if open := one[bool](e, "select intent_snapshot is not null from freshet.backfill_range"); open {
		t.Error("a worker that stopped in order left an intent open")
	}
	// Whoever begins again from the start brings this one back.
	e.appears("users:1")
	e.redis.Del(t.Context(), "users:1")
	e.exec("update users set name = 'written while nobody worked' where id in (2, 150000)")

	e.start()
	e.settle()
	e.inStep("users:*", usersPromise+" where id <> 1")
	if n := one[int64](e, "select rows_done from freshet.backfills"); n != rows {
		t.Errorf("%d rows done", n)
	}
}

func TestTruncateDuringABackfillLeavesNoEntries(t *testing.T) {
	t.Parallel()
	for _, ranges := range []int{1, 6} {
		t.Run(fmt.Sprintf("%d ranges", ranges), func(t *testing.T) {
			e := newEnv(t)
			e.inRangesOf(60_000 / ranges)
			e.exec(usersTable)
			e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 60000) g; analyze users")
			e.exec("select freshet.create_sink('users', 'users', backfill => false)")
			e.start()
			e.settle()
			e.exec("select freshet.backfill('users', rate => 30000)")
			e.await("the backfill is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") > 20_000 })
			if n := one[int](e.admin(), "select count(*) from freshet.backfill_range"); n < ranges {
				t.Fatalf("there are %d ranges, want %d", n, ranges)
			}
			e.transaction("truncate users", "insert into users (id, name) values (5, 'after')")
			e.follow("users:*", usersPromise)
			e.lastBackfill("users")
			e.settle()
			e.inStep("users:*", usersPromise)
		})
	}
}

func TestBackfillOfEveryShapeOfTable(t *testing.T) {
	e := newEnv(t)
	type table struct{ name, create, fill, sink, promise string }
	tables := []table{
		{name: "empty", create: "create table empty (id int primary key)"},
		{name: "single", create: "create table single (id int primary key)", fill: "insert into single values (7)"},
		{name: "chunk", create: "create table chunk (id int primary key)", fill: "insert into chunk select generate_series(1, 2000)"},
		{
			name: "pairs", create: "create table pairs (region int, id int, v text, primary key (id, region))",
			fill:    "insert into pairs select g % 7 - 3, g / 7 - 400, 'v' || g from generate_series(1, 7000) g",
			promise: "select 'pairs:' || id || ':' || region, to_jsonb(p)::text from pairs p",
		},
		{
			name: "words", create: "create table words (id text primary key)",
			fill: `insert into words select case g % 5 when 0 then 'ü' || g when 1 then 'Ab"c\' || g when 2 then '日本' || g when 3 then 'a,{b} ''' || g else '☃ ' || g end
				from generate_series(1, 6000) g union select ''`,
		},
		{
			name: "ids", create: "create table ids (id uuid primary key, n int)",
			fill: "insert into ids select gen_random_uuid(), g from generate_series(1, 6000) g",
		},
		{
			name: "padded", create: "create table padded (id char(8) primary key)",
			fill: "insert into padded select 'p' || g from generate_series(1, 5000) g",
		},
		{
			name: "bits", create: "create table bits (id bit(16) primary key)",
			fill: "insert into bits select g::bit(16) from generate_series(1, 5000) g",
		},
		{
			name: "amounts", create: "create table amounts (id numeric primary key)",
			fill: "insert into amounts select g / 10.0 from generate_series(1, 5000) g",
		},
		{
			name: "moments", create: "create table moments (id timestamptz primary key)",
			fill:    "insert into moments select timestamptz '2024-03-31 00:00+00' + g * interval '1.5 s' from generate_series(1, 5000) g",
			promise: "select 'moments:' || rtrim(rtrim(to_char(id at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), '0'), '.') || '+00', to_jsonb(m)::text from moments m",
		},
		{
			name: "rare", create: "create table rare (id int primary key)", fill: "insert into rare select generate_series(1, 40000)",
			sink: "filter => 'id % 10000 = 0'", promise: "select 'rare:' || id, to_jsonb(r)::text from rare r where id % 10000 = 0",
		},
		{
			name: "nobody", create: "create table nobody (id int primary key)", fill: "insert into nobody select generate_series(1, 5000)",
			sink: "filter => 'false'", promise: "select ''::text, ''::text where false",
		},
		{
			name: "sparse", create: "create table sparse (id int unique, v int)",
			fill: "insert into sparse select case when g % 3 = 0 then g end, g from generate_series(1, 9000) g",
			sink: "key => 'sparse:${id}'", promise: "select 'sparse:' || id, to_jsonb(s)::text from sparse s where id is not null",
		},
		{
			name: "keyless", create: "create table keyless (id int unique, v int)",
			fill: "insert into keyless select null, g from generate_series(1, 3000) g",
			sink: "key => 'keyless:${id}'", promise: "select ''::text, ''::text where false",
		},
		{
			name: "halves", create: "create table halves (a int, b int, unique (a, b))",
			fill: "insert into halves select nullif(g % 4, 0), nullif(g, g / 3 * 3) from generate_series(1, 9000) g",
			sink: "key => 'halves:${a}:${b}'", promise: "select 'halves:' || a || ':' || b, to_jsonb(h)::text from halves h where a is not null and b is not null",
		},
	}
	e.exec("set timezone = 'UTC'")
	for i := range tables {
		c := &tables[i]
		e.exec(c.create)
		if c.fill != "" {
			e.exec(c.fill)
		}
		if c.promise == "" {
			c.promise = fmt.Sprintf("select '%[1]s:' || id::text, to_jsonb(x)::text from %[1]s x", c.name)
		}
		args := ""
		if c.sink != "" {
			args = ", " + c.sink
		}
		e.exec(fmt.Sprintf("select freshet.create_sink('%[1]s', '%[1]s'%[2]s)", c.name, args))
	}
	e.start()
	for _, c := range tables {
		t.Run(c.name, func(t *testing.T) {
			sub := *e
			e := &sub
			e.t = t
			e.await("the backfill completes", func() bool {
				return one[string](e, "select state from freshet.backfills where sink = $1", c.name) == "completed"
			})
			pattern := c.name + ":*"
			if c.name == "moments" {
				// to_jsonb follows the session's time zone: compare keys.
				want := one[int](e, "select count(*) from moments")
				if got := len(e.redis.Keys(t.Context(), pattern).Val()); got != want {
					t.Errorf("%d entries, want %d", got, want)
				}
				return
			}
			e.inStep(pattern, c.promise)
		})
	}
}

func TestValidationTouchesKeysThatAreEqualInSQL(t *testing.T) {
	e := newEnv(t)
	e.exec("create table prices (amount numeric primary key)")
	e.exec("insert into prices values (1.0)")
	e.exec("select freshet.create_sink('prices', 'prices')")
	// As a worker does: the chunk is read, then the row gets its other key, then the
	// chunk lands and is validated.
	lease := one[int64](e, "select lease_id from freshet.backfill_range")
	epoch := one[int64](e, "select epoch from freshet.lease where id = $1", lease)
	one[bool](e, "select freshet.next_chunk($1, $2, (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), 'none', null, 0, null, pg_current_snapshot())", lease, epoch)
	e.exec("update prices set amount = 1.00")
	one[bool](e, "select freshet.next_chunk($1, $2, (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), 'all', '{1.0}', 1, null, null)", lease, epoch)
	got := one[[]string](e, "select coalesce(array_agg(k1::text order by k1::text), '{}') from freshet.changes_1 where op = 'r'")
	if want := "[1.0 1.00]"; fmt.Sprint(got) != want {
		t.Errorf("touched again: %v, want %s", got, want)
	}
}
