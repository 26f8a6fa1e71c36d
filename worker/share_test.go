package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	serverstest.Shutdown()
	os.Exit(code)
}

// shared is a database with sinks, and workers on it with short slices.
type shared struct {
	t                     *testing.T
	databaseURL, redisURL string
	db                    *pgxpool.Pool
}

func newShared(t *testing.T, sinks int) *shared {
	t.Helper()
	t.Parallel()
	s := &shared{t: t, databaseURL: serverstest.Postgres(t), redisURL: serverstest.Redis(t)}
	var err error
	if s.db, err = pgxpool.New(t.Context(), s.databaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	if err := install.Migrate(t.Context(), s.db, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	s.exec("create table users (id bigint primary key, name text)")
	s.exec("insert into users select g, 'user' from generate_series(1, 100) g")
	for n := range sinks {
		s.exec("select freshet.create_sink(format('sink_%s', $1::int), 'users', key => format('sink_%s:${id}', $1::int))", n)
	}
	return s
}

func (s *shared) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// start runs a worker until the end of the test and returns its id.
func (s *shared) start(slice time.Duration) string {
	s.t.Helper()
	w, err := New(s.t.Context(), Config{
		DatabaseURL: s.databaseURL,
		Targets:     map[string]string{"default": s.redisURL},
		Logger:      slog.New(slog.DiscardHandler),
		slice:       slice,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("worker: %v", err)
		}
	})
	return w.id
}

// awaitLanes waits until the number of lanes that a worker has satisfies want.
func (s *shared) awaitLanes(what string, want func(lanes map[string]int) bool) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		lanes := make(map[string]int)
		rows, err := s.db.Query(s.t.Context(), "select worker from freshet.status where worker is not null")
		if err != nil {
			s.t.Fatal(err)
		}
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				s.t.Fatal(err)
			}
			lanes[id]++
		}
		if err := rows.Err(); err != nil {
			s.t.Fatal(err)
		}
		if want(lanes) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("gave up waiting: %s; it is %v", what, lanes)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A slice that ends takes the lane to a worker that has two less, and not back to where it was.
func TestWorkersShareTheLanes(t *testing.T) {
	for _, c := range []struct {
		sinks int
		slice time.Duration
	}{{2, 500 * time.Millisecond}, {3, 500 * time.Millisecond}, {6, time.Second}} {
		t.Run(fmt.Sprintf("%d lanes", c.sinks), func(t *testing.T) {
			s := newShared(t, c.sinks)
			workers := []string{s.start(c.slice)}
			s.awaitLanes("the first worker has all", func(lanes map[string]int) bool { return lanes[workers[0]] == c.sinks })
			for len(workers) < min(c.sinks, 3) {
				before := s.handOvers()
				workers = append(workers, s.start(c.slice))
				s.awaitLanes("they have as many as each other", func(lanes map[string]int) bool {
					total := 0
					for _, w := range workers {
						total += lanes[w]
						if lanes[w] < c.sinks/len(workers) {
							return false
						}
					}
					return total == c.sinks
				})
				// Each to where it is to be, and what ended before the new one was known.
				if n := s.handOvers() - before; n > 2*c.sinks {
					t.Errorf("it took %d slices of %d lanes", n, c.sinks)
				}
			}
		})
	}
}

// handOvers is how often lanes were handed over.
func (s *shared) handOvers() (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), "select sum(epoch) from freshet.lease where kind = 'sync'").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// What is offered to a worker that is gone, or does not come for it, is served by others.
func TestLaneThatIsOfferedIsServed(t *testing.T) {
	s := newShared(t, 1)
	offer := func() {
		t.Helper()
		s.exec("insert into freshet.worker (id, role, targets) values ('other', current_user, '{default}') on conflict (id) do update set heartbeat_at = clock_timestamp()")
		s.exec("update freshet.lease set offered_to = 'other', holder = 'somebody' where kind = 'sync'")
		s.exec("select freshet.release_lease(id, epoch) from freshet.lease where kind = 'sync'")
		var queue string
		if err := s.db.QueryRow(t.Context(), "select queue from freshet.river_job j join freshet.lease l on l.job_id = j.id where l.kind = 'sync'").Scan(&queue); err != nil || queue != jobs.QueueOf("other") {
			t.Fatalf("the lane is in queue %q, %v", queue, err)
		}
	}
	offer()
	s.exec("select freshet.leave('other')")
	first := s.start(time.Minute)
	s.awaitLanes("left by the other", func(lanes map[string]int) bool { return lanes[first] == 1 })

	offer()
	s.awaitLanes("the other does not come", func(lanes map[string]int) bool { return lanes[first] == 0 })
	s.awaitLanes("the other did not come", func(lanes map[string]int) bool { return lanes[first] == 1 })
}

// Nothing is offered to a worker that cannot serve it, or has as many, or is about to end.
func TestLaneIsOfferedToWhoCanServeIt(t *testing.T) {
	s := newShared(t, 3)
	s.exec("update freshet.lease set holder = 'busy' where kind = 'sync'")
	s.exec("insert into freshet.worker (id, role, targets, heartbeat_at) values ('busy', current_user, '{default}', now())")
	for _, c := range []struct{ name, targets, last, want string }{
		{"idle", "{default}", "0 s", "idle"},
		{"silent", "{default}", "10 s", ""},
		{"ending", "{}", "0 s", ""},
		{"of others", "{other}", "0 s", ""},
	} {
		s.exec("delete from freshet.worker where id <> 'busy'")
		s.exec("insert into freshet.worker (id, role, targets, heartbeat_at) values ($1, current_user, $2::text::text[], clock_timestamp() - $3::text::interval)", c.name, c.targets, c.last)
		var got string
		if err := s.db.QueryRow(t.Context(), "select coalesce(freshet.lighter_worker(min(id), 'busy', '5 s'), '') from freshet.lease where kind = 'sync'").Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: offered to %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	// What is on its way to a worker counts for it.
	s.exec("delete from freshet.worker where id <> 'busy'")
	s.exec("insert into freshet.worker (id, role, targets) values ('idle', current_user, '{default}')")
	for _, want := range []string{"idle", "", ""} {
		var got string
		if err := s.db.QueryRow(t.Context(), `with one as (select min(id) as id from freshet.lease where kind = 'sync' and holder = 'busy'), handed as (
			select l.id, freshet.hand_over(l.id, l.epoch, '5 s') from one join freshet.lease l using (id)) select id::text from handed`).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if err := s.db.QueryRow(t.Context(), "select coalesce(offered_to, '') from freshet.lease where id = $1::text::bigint", got).Scan(&got); err != nil || got != want {
			t.Errorf("offered to %q, %v; want %q", got, err, want)
		}
	}
}

// A lane that sleeps when its slice is over goes on, and writes its cursor down all the same:
// neither Redis nor Postgres may remember one that is too old.
func TestLaneThatSleepsStaysAndKeepsItsCursorFresh(t *testing.T) {
	s := newShared(t, 1)
	s.start(300 * time.Millisecond)
	s.awaitLanes("the worker has the lane", func(lanes map[string]int) bool { return len(lanes) == 1 })
	opts, err := redis.ParseURL(s.redisURL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	defer client.Close()
	deadline := time.Now().Add(30 * time.Second)
	look := func() (cursor string, epoch int64) {
		var key string
		err := s.db.QueryRow(t.Context(), `select format('freshet:%s:%s:0', i.id, l.sink_id), l.epoch
			from freshet.installation i, freshet.lease l where l.kind = 'sync'`).Scan(&key, &epoch)
		if err == nil {
			cursor, err = client.HGet(t.Context(), key, "cursor").Result()
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		return cursor, epoch
	}
	for {
		cursor, epoch := look()
		s.exec("select pg_current_xact_id()") // a later snapshot
		// The end of a job writes it down, too, but once only.
		for now, held, written := cursor, epoch, 0; held == epoch; now, held = look() {
			if now != cursor {
				if written++; written == 3 {
					return
				}
				cursor = now
				s.exec("select pg_current_xact_id()")
			}
			if time.Now().After(deadline) {
				t.Fatalf("the cursor %q has not moved while the lane stayed (epoch %d)", cursor, epoch)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// A lane that is busy when its slice is over goes on, too: its changes would wait for who takes it.
func TestLaneThatIsBusyStays(t *testing.T) {
	const slice = 100 * time.Millisecond
	s := newShared(t, 1)
	s.start(slice)
	s.awaitLanes("the worker has the lane", func(lanes map[string]int) bool { return len(lanes) == 1 })
	epoch := func() (n int64) {
		if err := s.db.QueryRow(t.Context(), "select epoch from freshet.lease where kind = 'sync'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for w := range 3 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := s.db.Exec(ctx, "update users set name = $2 where id % 3 = $1", w, fmt.Sprint(n)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// One is taken by its job twenty times over at most.
	before, begin := epoch(), time.Now()
	for time.Since(begin) < 30*slice {
		s.exec("update users set name = 'another' where id = 1")
	}
	if taken := epoch() - before; taken > 3 {
		t.Errorf("in thirty slices the lane was handed over %d times", taken)
	}
}

// Whatever the order in which slices end, every lane keeps being served.
func TestHandedOverLanesAreServed(t *testing.T) {
	s := newShared(t, 6)
	const slice = 200 * time.Millisecond
	s.start(slice)
	s.start(slice)
	for round := range 10 {
		s.exec("update users set name = format('round %s', $1::int)", round)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := Settle(ctx, s.db, []string{"default"})
		cancel()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// Lanes wander while somebody scrapes: each is shown once at most by every worker, and in
// the end by the one that holds it only.
func TestLaneIsShownByItsHolderOnly(t *testing.T) {
	s := newShared(t, 6)
	var workers []*Worker
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for range 2 {
		w, err := New(t.Context(), Config{
			DatabaseURL: s.databaseURL, Targets: map[string]string{"default": s.redisURL},
			Logger: slog.New(slog.DiscardHandler), slice: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		workers = append(workers, w)
		running.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	shown := func(w *Worker) []string {
		answer := httptest.NewRecorder()
		w.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if answer.Code != http.StatusOK {
			t.Fatalf("metrics: %d %s", answer.Code, answer.Body)
		}
		var lanes []string
		for line := range strings.Lines(answer.Body.String()) {
			if series, _, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(series, "freshet_lag_seconds{") {
				lanes = append(lanes, series)
			}
		}
		return lanes
	}
	wandered := make(map[string]bool)
	deadline := time.Now().Add(time.Minute)
	for len(wandered) < 12 {
		if time.Now().After(deadline) {
			t.Fatalf("the lanes do not wander: %v", wandered)
		}
		for i, w := range workers {
			seen := make(map[string]bool)
			for _, lane := range shown(w) {
				if seen[lane] {
					t.Fatalf("%s is shown twice", lane)
				}
				seen[lane] = true
				wandered[fmt.Sprint(i, lane)] = true
			}
		}
	}
	cancel()
	running.Wait()
	for i, w := range workers {
		if lanes := shown(w); len(lanes) > 0 {
			t.Errorf("worker %d has stopped and shows %v", i, lanes)
		}
	}
}
