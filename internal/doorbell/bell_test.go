package doorbell_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/doorbell"
	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

const (
	patience = 20 * time.Second
	// quick bounds the median way from a commit to the sleeper. The look each second would
	// make it half a second.
	quick = 200 * time.Millisecond
)

// house is a database with a source that is captured, number 1.
type house struct {
	t  *testing.T
	db *pgxpool.Pool
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), serverstest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := install.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, db: pool}
	h.exec("select freshet.renew_incarnation()") // as the first lane does
	h.exec("create table users (id bigint generated always as identity primary key)")
	h.exec("select freshet.create_sink('users', 'users', backfill => false)")
	return h
}

func (h *house) exec(sql string) {
	h.t.Helper()
	if _, err := h.db.Exec(h.t.Context(), sql); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

func (h *house) incarnation() string {
	h.t.Helper()
	var text string
	if err := h.db.QueryRow(h.t.Context(), "select freshet.incarnation()").Scan(&text); err != nil {
		h.t.Fatal(err)
	}
	return text
}

func (h *house) write() { h.t.Helper(); h.exec("insert into users default values") }

func (h *house) dial(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, h.db.Config().ConnConfig.Copy())
}

// bell runs the bell of one worker until the end of the test.
func (h *house) bell(pollOnly bool) *doorbell.Bell {
	b := doorbell.New(h.db, h.dial, pollOnly, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	h.t.Cleanup(func() { cancel(); <-done })
	return b
}

func (h *house) now() cursor.Snapshot {
	h.t.Helper()
	var text string
	if err := h.db.QueryRow(h.t.Context(), "select pg_current_snapshot()::text").Scan(&text); err != nil {
		h.t.Fatal(err)
	}
	s, err := cursor.ParseSnapshot(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) await(what string, state func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !state() {
		if time.Now().After(deadline) {
			h.t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// arm arms as a lane does, until nothing stands in the way.
func (h *house) arm(s *doorbell.Sleeper) {
	h.t.Helper()
	h.await("the bell is armed", func() bool { return s.Arm(h.t.Context()) })
}

// fallAsleep begins to sleep; the channel closes when the sleeper wakes.
func (h *house) fallAsleep(s *doorbell.Sleeper) <-chan struct{} {
	h.t.Helper()
	h.arm(s)
	passed := h.now()
	woke := make(chan struct{})
	go func() { defer close(woke); s.Sleep(context.Background(), passed, patience) }()
	return woke
}

func (h *house) wakes(woke <-chan struct{}) time.Duration {
	h.t.Helper()
	began := time.Now()
	select {
	case <-woke:
	case <-time.After(patience / 2):
		h.t.Fatal("the sleeper was not woken")
	}
	return time.Since(began)
}

// locks is how many sources of this database are slept on.
func (h *house) locks() (n int) {
	h.t.Helper()
	err := h.db.QueryRow(h.t.Context(), `select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
		and classid = 1181905011 and database = (select oid from pg_database where datname = current_database())`).Scan(&n)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// holder is the backend that holds the lock of a source, 0 if none does.
func (h *house) holder() (pid int) {
	h.t.Helper()
	err := h.db.QueryRow(h.t.Context(), `select coalesce(max(pid), 0) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
		and classid = 1181905011 and database = (select oid from pg_database where datname = current_database())`).Scan(&pid)
	if err != nil {
		h.t.Fatal(err)
	}
	return pid
}

func nothing(cursor.Snapshot, time.Time) {}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

func TestCommitWakesTheSleeper(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	var took []time.Duration
	for range 11 {
		woke := h.fallAsleep(s)
		h.write()
		took = append(took, h.wakes(woke))
	}
	if m := median(took); m > quick {
		t.Errorf("the median sleeper woke after %v", m)
	}
}

func TestTouchWakesTheSleeper(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	var took []time.Duration
	for range 7 {
		woke := h.fallAsleep(s)
		h.exec("select freshet.touch_keys(1, '[[\"7\"]]')")
		took = append(took, h.wakes(woke))
	}
	if m := median(took); m > quick {
		t.Errorf("the median sleeper woke after %v", m)
	}
}

func TestSleeperIsToldOfAnOpenWriter(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	h.arm(s)
	s.Awake()
	h.await("the lock is given back", func() bool { return h.locks() == 0 })

	tx, err := h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "insert into users default values"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if s.Arm(t.Context()) {
			t.Fatal("armed beside a writer that will not ring")
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.arm(s)
}

func TestWriterThatRangRollsBackToSilence(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	// The first capture is rolled back with its savepoint, and the bell with it: the next
	// one has to ring again.
	var took []time.Duration
	for range 7 {
		woke := h.fallAsleep(s)
		h.exec("begin; savepoint a; insert into users default values; rollback to a; insert into users default values; commit")
		took = append(took, h.wakes(woke))
	}
	if m := median(took); m > quick {
		t.Errorf("the median sleeper woke after %v", m)
	}
}

func TestNobodySleepsNobodyRings(t *testing.T) {
	h := newHouse(t)
	listener, err := h.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(context.Background())
	if _, err := listener.Exec(t.Context(), "listen freshet_bell"); err != nil {
		t.Fatal(err)
	}
	heard := func() (payloads []string) {
		t.Helper()
		h.exec("select pg_notify('freshet_bell', 'end')")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			n, err := listener.WaitForNotification(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if n.Payload == "end" {
				return payloads
			}
			payloads = append(payloads, n.Payload)
		}
	}

	bell := h.bell(false)
	s := bell.NewSleeper(1, h.incarnation(), nothing)
	for range 10 {
		h.write()
	}
	if got := heard(); len(got) > 0 {
		t.Errorf("rung %q though nobody slept yet", got)
	}

	woke := h.fallAsleep(s)
	h.write()
	h.wakes(woke)
	h.await("the lock is given back", func() bool { return h.locks() == 0 })
	if got := heard(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("rung %q for one sleeper and one write", got)
	}
	for range 10 {
		h.write()
	}
	if got := heard(); len(got) > 0 {
		t.Errorf("rung %q though nobody sleeps any more", got)
	}

	// Armed and then closed, as a lane whose slice ends.
	h.arm(s)
	s.Close()
	h.await("the lock is given back", func() bool { return h.locks() == 0 })
	heard() // whatever the bells tell each other about that
	h.write()
	if got := heard(); len(got) > 0 {
		t.Errorf("rung %q after the sleeper was closed", got)
	}
}

func TestOneBellWakesEveryLaneOfTheSource(t *testing.T) {
	h := newHouse(t)
	bell := h.bell(false)
	a, b := bell.NewSleeper(1, h.incarnation(), nothing), bell.NewSleeper(1, h.incarnation(), nothing)
	defer a.Close()
	defer b.Close()
	var took []time.Duration
	for range 7 {
		wokeA, wokeB := h.fallAsleep(a), h.fallAsleep(b)
		h.write()
		took = append(took, h.wakes(wokeA)+h.wakes(wokeB))
	}
	if m := median(took); m > quick {
		t.Errorf("the median of the later sleeper is %v", m)
	}
}

func TestLockIsGivenBackAsOftenAsItIsTaken(t *testing.T) {
	h := newHouse(t)
	first, second := h.bell(false), h.bell(false)
	writing, stop := context.WithCancel(t.Context())
	var writer, lanes sync.WaitGroup
	writer.Go(func() {
		for writing.Err() == nil {
			// Sometimes before the lock is given back, sometimes after, and sometimes two at once.
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
			for range 1 + rand.IntN(2) {
				if _, err := h.db.Exec(writing, "insert into users default values"); err != nil {
					return
				}
			}
		}
	})
	for _, bell := range []*doorbell.Bell{first, first, first, second} {
		s := bell.NewSleeper(1, h.incarnation(), nothing)
		lanes.Go(func() {
			defer s.Close()
			for range 150 {
				if s.Arm(t.Context()) {
					s.Sleep(t.Context(), h.now(), patience)
				}
			}
		})
	}
	lanes.Wait()
	stop()
	writer.Wait()
	h.await("the lock is given back", func() bool { return h.locks() == 0 })
	s := first.NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	woke := h.fallAsleep(s)
	h.write()
	h.wakes(woke)
}

func TestLockThatIsKeptStaysWithWhoArmsAgain(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	for range 5 {
		woke := h.fallAsleep(s)
		h.write()
		h.wakes(woke)
		h.arm(s)
		holder := h.holder()
		for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; {
			if now := h.holder(); now == 0 || now != holder {
				t.Fatalf("armed, and the lock is held by %d, was by %d", now, holder)
			}
		}
		s.Awake()
		h.await("the lock is given back", func() bool { return h.locks() == 0 })
	}
}

func TestTwoWorkersSleepOnOneSource(t *testing.T) {
	h := newHouse(t)
	a, b := h.bell(false).NewSleeper(1, h.incarnation(), nothing), h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer a.Close()
	defer b.Close()
	var took []time.Duration
	for range 7 {
		wokeA, wokeB := h.fallAsleep(a), h.fallAsleep(b)
		h.write()
		took = append(took, h.wakes(wokeA)+h.wakes(wokeB))
	}
	if m := median(took); m > quick {
		t.Errorf("the median of the later sleeper is %v", m)
	}
}

func TestSleeperHearsTheBellAfterTheOtherWorkersSleeperRose(t *testing.T) {
	h := newHouse(t)
	first, second := h.bell(false), h.bell(false)
	b := second.NewSleeper(1, h.incarnation(), nothing)
	defer b.Close()
	var took []time.Duration
	for range 5 {
		a := first.NewSleeper(1, h.incarnation(), nothing)
		h.await("the second worker has given it back", func() bool { return h.holder() == 0 })
		h.arm(a) // the first worker holds the lock
		holder := h.holder()
		woke := h.fallAsleep(b)
		a.Close() // its slice ends, and nobody rang
		h.await("the first worker's lock is gone", func() bool { return h.holder() != holder })
		select {
		case <-woke: // it was told, and arms by itself
			woke = h.fallAsleep(b)
		default:
		}
		h.write()
		took = append(took, h.wakes(woke))
	}
	if m := median(took); m > quick {
		t.Errorf("the median sleeper woke after %v", m)
	}
}

func TestLookFindsWhatTheBellDoesNotRingFor(t *testing.T) {
	h := newHouse(t)
	told := make(chan cursor.Snapshot, 100)
	s := h.bell(true).NewSleeper(1, h.incarnation(), func(passed cursor.Snapshot, _ time.Time) {
		select {
		case told <- passed:
		default:
		}
	})
	defer s.Close()
	if s.Arm(t.Context()) {
		t.Error("armed without a listening connection")
	}
	passed := h.now()
	woke := make(chan struct{})
	go func() { defer close(woke); s.Sleep(context.Background(), passed, patience) }()

	// Nothing is pending: the lane is told so, as of a later snapshot.
	h.exec("select pg_current_xact_id()")
	select {
	case at := <-told:
		if !at.Covers(passed) {
			t.Errorf("told that %s is passed, which does not cover %s", at, passed)
		}
	case <-time.After(patience / 2):
		t.Fatal("the sleeper was never told that nothing is pending")
	}
	h.write()
	h.wakes(woke)
}

func TestBellComesBackAfterItsConnectionWasLost(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	woke := h.fallAsleep(s)
	h.exec(`select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and classid = 1181905011
		and database = (select oid from pg_database where datname = current_database())`)
	// Found by the look at the latest.
	h.write()
	h.wakes(woke)
	var took []time.Duration
	for range 7 {
		woke := h.fallAsleep(s)
		h.write()
		took = append(took, h.wakes(woke))
	}
	if m := median(took); m > quick {
		t.Errorf("afterwards, the median sleeper woke after %v", m)
	}
}

func TestSleepEnds(t *testing.T) {
	h := newHouse(t)
	s := h.bell(false).NewSleeper(1, h.incarnation(), nothing)
	defer s.Close()
	h.arm(s)
	s.Sleep(t.Context(), h.now(), time.Millisecond) // by its time

	h.arm(s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Sleep(ctx, h.now(), patience) // by its context
	h.await("the lock is given back", func() bool { return h.locks() == 0 })
	_ = s.Arm(ctx) // comes back, armed or not
}

func TestHearsItsOwnNotifications(t *testing.T) {
	h := newHouse(t)
	heard, err := doorbell.Hears(t.Context(), h.dial)
	if err != nil || !heard {
		t.Errorf("a direct connection hears: %v, %v", heard, err)
	}
	_, err = doorbell.Hears(t.Context(), func(ctx context.Context) (*pgx.Conn, error) {
		return pgx.Connect(ctx, "postgres://127.0.0.1:1/none")
	})
	if err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("no server is an answer: %v", err)
	}
}
