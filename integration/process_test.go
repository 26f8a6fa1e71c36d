package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// takeover is what the lanes and backfills of a killed worker may wait for another one.
const takeover = 10 * time.Second

// process is a freshet of its own, as a user would run it.
type process struct {
	t      *testing.T
	name   string // also its application_name in Postgres
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	ended  chan struct{}
}

// buffer is written by the process and read by the test at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

var processes atomic.Int64

// process starts a command of the binary against the servers of e. It is killed at the
// end of the test at the latest; what it said is shown if the test failed.
func (e *env) process(args ...string) *process {
	e.t.Helper()
	name := fmt.Sprintf("test_%s_%d", args[0], processes.Add(1))
	return startProcess(e.t, name, map[string]string{
		"FRESHET_DATABASE_URL": named(e.t, e.workerURL, name),
		"FRESHET_REDIS_URL":    e.redisURL,
		"FRESHET_LOG_LEVEL":    "debug",
	}, args...)
}

// named is a database URL whose connections Postgres shows under a name.
func named(t *testing.T, databaseURL, name string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("application_name", name)
	u.RawQuery = query.Encode()
	return u.String()
}

// startProcess gives the command nothing of this test's own environment but PATH.
func startProcess(t *testing.T, name string, environment map[string]string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(binary(t), args...), ended: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for variable, value := range environment {
		p.cmd.Env = append(p.cmd.Env, variable+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the status is in ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // ends a stopped process too
		<-p.ended
		if t.Failed() {
			t.Logf("%s said:\n%s%s", name, p.stdout.String(), tailOf(p.stderr.String(), 4000))
		}
	})
	return p
}

func tailOf(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, s, err)
	}
}

// kill is kill -9; it returns once the process is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// wait returns the exit status, and fails the test if there is none in time.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %s", p.name, limit)
		return -1
	}
}

var workerID = regexp.MustCompile(`msg=working worker=(\S+)`)

// worker starts a worker and returns once it works, with the id it goes by in status.
func (e *env) worker() (*process, string) {
	e.t.Helper()
	p := e.process("worker")
	var id string
	e.await(p.name+" works", func() bool {
		select {
		case <-p.ended:
			e.t.Fatalf("%s ended: %s", p.name, p.stderr.String())
		default:
		}
		if found := workerID.FindStringSubmatch(p.stderr.String()); found != nil {
			id = found[1]
		}
		return id != ""
	})
	return p, id
}

// holds reports whether a worker has every lane of the database.
func (e *env) holds(id string) bool {
	return one[bool](e, "select coalesce(bool_and(worker is not distinct from $1), false) from freshet.status", id)
}

// counters is the table whose rows only ever get a higher version.
const counters = `create table counters (id bigint primary key, version bigint not null default 0, pad text not null default repeat('x', 100))`

func countersPromise(sink string) string {
	return "select '" + sink + ":' || id, to_jsonb(c)::text from counters c"
}

// load raises versions of the first 380 rows until stop is called, which returns once
// the last one is committed.
func (e *env) load() (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				// Not broken off in the end: it could be committed later than whoever stops this believes.
				_, err := e.db.Exec(e.t.Context(), "update counters set version = version + 1 where id between $1 and $1 + 10", i%37*10+1)
				// The two can meet in another order of rows; one of them tries again.
				if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "deadlock") {
					e.t.Errorf("load: %v", err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	e.t.Cleanup(stop)
	return stop
}

// version is the version in an entry, -1 if there is none.
func version(entry string) int64 {
	var row struct{ Version int64 }
	if json.Unmarshal([]byte(entry), &row) != nil {
		return -1
	}
	return row.Version
}

// raise commits a higher version of row 1 and returns it.
func (e *env) raise() int64 {
	e.t.Helper()
	return one[int64](e, "update counters set version = version + 1 where id = 1 returning version")
}

// awaitVersion waits until an entry has at least this version.
func (e *env) awaitVersion(key string, least int64) {
	e.t.Helper()
	e.await(fmt.Sprintf("%s has version %d", key, least), func() bool { return version(e.entry(key)) >= least })
}

func TestKilledWorkersLanesAndBackfillGoOnElsewhere(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 100000) g")
	victim, _ := e.worker()
	heir, heirID := e.worker()
	heir.signal(syscall.SIGSTOP) // so that the victim takes everything
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.load()
	e.await("the backfill is under way", func() bool {
		return one[int64](e, "select coalesce(sum(rows_done), 0)::bigint from freshet.backfills") > 10000
	})
	if e.holds(heirID) {
		t.Fatal("a stopped process took a lane")
	}
	heir.signal(syscall.SIGCONT)
	killed := time.Now()
	victim.kill()
	if one[bool](e, "select bool_and(state = 'completed') from freshet.backfills") {
		t.Fatal("the backfill was over before the kill")
	}

	newer := e.raise()
	e.awaitVersion("counters:1", newer)
	lane := time.Since(killed)
	e.await("the other worker has the backfill", func() bool {
		return one[bool](e, `select bool_or(b.state = 'completed') or exists (
			select from freshet.lease l where l.kind = 'backfill' and l.holder = $1) from freshet.backfills b`, heirID)
	})
	backfill := time.Since(killed)
	t.Logf("lane after %s, backfill after %s", lane, backfill)
	if max(lane, backfill) > takeover {
		t.Errorf("after the kill the lane was served again in %s and the backfill in %s; want %s", lane, backfill, takeover)
	}
	stop()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
}

func TestTerminatedWorkerHandsOverAtOnce(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 500) g")
	for _, sink := range []string{"one", "two", "three"} {
		e.exec("select freshet.create_sink($1::text, 'counters', key => $1::text || ':${id}')", sink)
	}
	leaver, leaverID := e.worker()
	e.await("the first worker has the lanes", func() bool { return e.holds(leaverID) })
	_, stayerID := e.worker()
	stop := e.load()
	e.settle()
	if !e.holds(leaverID) {
		t.Fatal("the lanes moved before anything happened")
	}

	asked := time.Now()
	leaver.signal(syscall.SIGTERM)
	status := leaver.wait(patience)
	left := time.Since(asked)
	newer := e.raise()
	for _, sink := range []string{"one", "two", "three"} {
		e.awaitVersion(sink+":1", newer)
	}
	served := time.Since(asked)
	t.Logf("ended after %s, lanes served after %s", left, served)
	if status != 0 || left > time.Second {
		t.Errorf("exit status %d after %s; want 0 within a second", status, left)
	}
	if served > 2*time.Second {
		t.Errorf("the lanes were served again after %s; want at once", served)
	}
	if !e.holds(stayerID) {
		t.Error("the worker that stayed does not have every lane")
	}
	stop()
	e.settle()
	for _, sink := range []string{"one", "two", "three"} {
		e.inStep(sink+":*", countersPromise(sink))
	}
}

// zombies are two workers that take turns: one is stopped, loses its lanes to the other
// and wakes up again.
type zombies struct {
	*env
	sinks     []string
	processes [2]*process
	ids       [2]string
	zombie    int
	looks     atomic.Int64 // how often watch has read every entry
}

func newZombies(t *testing.T) *zombies {
	z := &zombies{env: newEnv(t), sinks: []string{"one", "two", "three"}}
	z.exec(counters)
	z.exec("insert into counters (id) select g from generate_series(1, 400) g")
	for _, sink := range z.sinks {
		z.exec("select freshet.create_sink($1::text, 'counters', key => $1::text || ':${id}')", sink)
	}
	z.processes[0], z.ids[0] = z.worker()
	z.await("the first worker has the lanes", func() bool { return z.holds(z.ids[0]) })
	z.processes[1], z.ids[1] = z.worker()
	z.settle()
	return z
}

// choose makes the worker that has a lane the next zombie. Lanes wander when their
// slices end: where both have some, either will do.
func (z *zombies) choose() *process {
	z.t.Helper()
	holder := one[string](z.env, "select worker from freshet.status where worker is not null order by sink limit 1")
	for n, id := range z.ids {
		if id == holder {
			z.zombie = n
		}
	}
	return z.processes[z.zombie]
}

// replaced waits until the other worker has every lane and has written newer versions.
func (z *zombies) replaced() {
	z.t.Helper()
	newer := z.raise()
	z.await("the other worker has every lane", func() bool { return z.holds(z.ids[1-z.zombie]) })
	for _, sink := range z.sinks {
		z.awaitVersion(sink+":1", newer)
	}
}

// wake continues the zombie and waits until it has let go. watch must run.
//
// Its first heartbeat would end all its work at once, before that can do any harm. So it
// is held up until the entries have been looked at for a while. A heartbeat ends what was
// lost, so the second one afterwards shows that the first has been through.
func (z *zombies) wake() {
	z.t.Helper()
	const beat = "select heartbeat_at from freshet.worker where id = $1"
	ctx := z.t.Context()
	p, id := z.processes[z.zombie], z.ids[z.zombie]
	heart, err := z.db.Begin(ctx)
	if err != nil {
		z.t.Fatal(err)
	}
	defer heart.Rollback(context.WithoutCancel(ctx))
	if _, err := heart.Exec(ctx, "select from freshet.worker where id = $1 for update", id); err != nil {
		z.t.Fatal(err)
	}
	p.signal(syscall.SIGCONT)
	z.await("the zombie's heartbeat waits", func() bool { return z.waiting(p) > 0 })
	enough := z.looks.Load() + 100
	z.await("the entries have been looked at", func() bool { return z.t.Failed() || z.looks.Load() > enough })
	last := one[time.Time](z.env, beat, id)
	if err := heart.Commit(ctx); err != nil {
		z.t.Fatal(err)
	}
	for range 2 {
		z.await("the zombie's heart beats", func() bool {
			now := one[time.Time](z.env, beat, id)
			if !now.After(last) {
				return false
			}
			last = now
			return true
		})
	}
}

// waiting is how many statements of a process wait for a lock.
func (e *env) waiting(p *process) int {
	return one[int](e.admin(), `select count(*) from pg_stat_activity
		where application_name = $1 and datname = current_database() and wait_event_type = 'Lock'`, p.name)
}

// watch reads every entry over and over and reports a version that went back.
func (z *zombies) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var keys []string
	for _, sink := range z.sinks {
		for id := range 400 {
			keys = append(keys, sink+":"+strconv.Itoa(id+1))
		}
	}
	highest := make([]int64, len(keys))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			values, err := z.redis.MGet(ctx, keys...).Result()
			if err != nil {
				if ctx.Err() == nil {
					z.t.Errorf("watch: %v", err)
				}
				return
			}
			for i, value := range values {
				text, _ := value.(string)
				v := version(text)
				if v < highest[i] {
					z.t.Errorf("%s went back from version %d to %d", keys[i], highest[i], v)
					return
				}
				highest[i] = v
			}
			z.looks.Add(1)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	z.t.Cleanup(stop)
	return stop
}

func (z *zombies) allInStep() {
	z.t.Helper()
	for _, sink := range z.sinks {
		z.inStep(sink+":*", countersPromise(sink))
	}
}

// stopInside stops the worker at a moment when Postgres is about to answer `waiting`
// of its statements: they wait for a lock that the transaction hold takes, and are
// answered to a process that cannot read on.
func (z *zombies) stopInside(p *process, waiting int, hold string, start func()) {
	z.t.Helper()
	ctx := z.t.Context()
	tx, err := z.db.Begin(ctx)
	if err != nil {
		z.t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, hold); err != nil {
		z.t.Fatal(err)
	}
	start()
	z.await("the worker's statements wait for the lock", func() bool { return z.waiting(p) >= waiting })
	p.signal(syscall.SIGSTOP)
	if err := tx.Commit(ctx); err != nil {
		z.t.Fatal(err)
	}
	z.await("Postgres has answered", func() bool { return z.waiting(p) == 0 })
}

// attack stops the worker when it has read batches of every lane it holds, lets it miss what
// happens meanwhile and newer data, and wakes it.
func (z *zombies) attack(meanwhile func()) {
	z.t.Helper()
	zombie := z.choose()
	lanes := one[int](z.env, "select count(*) from freshet.status where worker = $1", z.ids[z.zombie])
	// The table itself is locked, so the rows are touched by Freshet's own means. No more
	// lanes read at a time than there are connections for it.
	z.stopInside(zombie, min(lanes, 4), "lock table counters in access exclusive mode", func() {
		z.exec(`select freshet.touch_keys(s.id, (select jsonb_agg(jsonb_build_array(g::text)) from generate_series(1, 400) g)) from freshet.sink s`)
	})
	meanwhile()
	z.outlived()
}

// outlived has the other worker write newer data while the zombie is stopped, wakes it, and
// looks whether anything it had read was written.
func (z *zombies) outlived() {
	z.t.Helper()
	z.exec("update counters set version = version + 1")
	z.replaced()
	stopWatching := z.watch()
	z.settle()
	z.allInStep()

	z.wake()
	stopWatching()
	// Nothing has changed since, so nobody would have mended what a zombie broke.
	z.allInStep()
}

// rounds is how often the zombies come: FRESHET_TEST_ROUNDS says so where there is time.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("FRESHET_TEST_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("FRESHET_TEST_ROUNDS: %v", err)
	}
	return n
}

// A batch that was read before the worker stopped is written by nobody: between its
// reading and its waking others have written newer data.
func TestZombieDoesNotWriteTheBatchItHadRead(t *testing.T) {
	z := newZombies(t)
	for round := range rounds(t, 2) {
		z.attack(func() {})
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

func TestZombieDoesNotWriteTheChunkOfABackfillItHadRead(t *testing.T) {
	z := newZombies(t)
	zombie := z.choose()
	other := z.processes[1-z.zombie]
	z.await("one worker has every lane", func() bool { return z.holds(z.ids[z.zombie]) })
	// The other one must not get the backfill, and asking for it reads the table that is
	// about to be locked.
	other.signal(syscall.SIGSTOP)
	zombie.signal(syscall.SIGSTOP)
	z.exec("select freshet.backfill('two')")
	z.stopInside(zombie, 1, "lock table counters in access exclusive mode", func() { zombie.signal(syscall.SIGCONT) })
	other.signal(syscall.SIGCONT)
	z.outlived()
	if one[int](z.env, "select count(*) from freshet.backfills where state <> 'completed'") != 0 {
		t.Error("a backfill was not completed")
	}
}

func TestZombieUnderLoadNeverTurnsAnEntryBack(t *testing.T) {
	z := newZombies(t)
	for round := range rounds(t, 2) {
		stopLoad := z.load()
		zombie := z.choose()
		z.awaitVersion("one:1", z.raise()) // it is at work
		zombie.signal(syscall.SIGSTOP)
		z.replaced()
		stopWatching := z.watch()
		if round%2 == 0 { // otherwise it wakes under load
			stopLoad()
			z.settle()
		}
		z.wake()
		stopLoad()
		z.settle()
		stopWatching()
		z.allInStep()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// A transaction that a stopped worker leaves open keeps its locks: they must not keep
// others from its leases.
func TestWorkerStoppedInsideItsHeartbeatLosesItsLanes(t *testing.T) {
	z := newZombies(t)
	zombie := z.choose()
	z.await("one worker has every lane", func() bool { return z.holds(z.ids[z.zombie]) })
	z.stopInside(zombie, 1, "select from freshet.worker for update", func() {})
	stopped := time.Now()
	z.replaced()
	if waited := time.Since(stopped); waited > takeover {
		t.Errorf("its lanes were served again after %s; want %s", waited, takeover)
	}
	z.watch()
	z.wake()
	z.settle()
	z.allInStep()
}

// pgbench finds the program beside the server's own.
func (e *env) pgbench() string {
	e.t.Helper()
	dirs := []string{one[string](e.admin(), "select setting from pg_config where name = 'BINDIR'")}
	if path, err := exec.LookPath("pgbench"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "pgbench")
		if _, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	e.t.Fatalf("pgbench is not in %s: install the client programs that belong to the server", strings.Join(dirs, " or "))
	return ""
}

func TestPgbenchIsInStepThoughTheWorkerIsKilled(t *testing.T) {
	e := newEnv(t)
	pgbench := e.pgbench()
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), pgbench, append(args, e.databaseURL)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		return cmd
	}
	if out, err := run("-i", "-q", "-s", "2").CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	// Not to_jsonb: many documents are compared faster when their bytes agree.
	promises := map[string]string{
		"pgbench_accounts": "select 'pgbench_accounts:' || aid, row_to_json(t)::text from pgbench_accounts t",
		"pgbench_tellers":  "select 'pgbench_tellers:' || tid, row_to_json(t)::text from pgbench_tellers t",
		"pgbench_branches": "select 'pgbench_branches:' || bid, row_to_json(t)::text from pgbench_branches t",
	}
	for table := range promises {
		e.exec("select freshet.create_sink($1::text, $1::text::regclass)", table)
	}
	worker, _ := e.worker()

	var out bytes.Buffer
	bench := run("-n", "-c", "8", "-t", "700")
	bench.Stdout, bench.Stderr = &out, &out
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	transactions := func() int64 { return one[int64](e, "select count(*) from pgbench_history") }
	for _, least := range []int64{500, 2000} {
		e.await("pgbench is under way", func() bool { return transactions() > least })
		worker.kill()
		worker, _ = e.worker()
	}
	if err := bench.Wait(); err != nil {
		t.Fatalf("pgbench: %v\n%s", err, out.String())
	}
	t.Logf("%d transactions", transactions())
	e.settle()
	for table, promise := range promises {
		e.inStep(table+":*", promise)
	}
	if gaps := one[int](e, "select count(*) from freshet.capture_gaps"); gaps != 0 {
		t.Errorf("%d changes were not captured", gaps)
	}
}

// restartable is an env whose Redis is its own and can be killed.
func restartable(t *testing.T) (*env, func()) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	return e, func() {
		t.Helper()
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		// This client's connections are of the server's former life.
		e.await("Redis answers", func() bool { return e.redis.Ping(t.Context()).Err() == nil })
	}
}

// awaitInStep waits until the entries are what they should be, whoever mends them.
func (e *env) awaitInStep(pattern, promise string) {
	e.t.Helper()
	var diff []string
	deadline := time.Now().Add(patience)
	for {
		if diff = e.difference(pattern, promise); len(diff) == 0 {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%d entries still differ:\n%s", len(diff), strings.Join(diff[:min(len(diff), 10)], "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRedisThatLostEverythingUnderLoadIsWarmedAgain(t *testing.T) {
	e, restart := restartable(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	worker, _ := e.worker()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))

	stop := e.load()
	e.awaitVersion("counters:1", e.raise())
	restart()
	e.awaitVersion("counters:1", e.raise())
	stop()
	e.awaitInStep("counters:*", countersPromise("counters"))
	select {
	case <-worker.ended:
		t.Error("the worker did not survive the restart of Redis")
	default:
	}
}

// Nobody writes, so only the worker itself can notice.
func TestRedisThatLostEverythingWhileIdleIsWarmedAgain(t *testing.T) {
	e, restart := restartable(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.worker()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))

	restarted := time.Now()
	restart()
	e.awaitInStep("counters:*", countersPromise("counters"))
	if waited := time.Since(restarted); waited > takeover {
		t.Errorf("it was noticed and mended after %s; want %s", waited, takeover)
	}
}

func TestLostPostgresConnectionsAreMadeAgain(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 100000) g")
	worker, _ := e.worker()
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.load()
	for round := range 4 { // the first in the middle of the backfill
		began := time.Now()
		e.awaitVersion("counters:1", e.raise())
		t.Logf("round %d: served after %s", round, time.Since(began))
		ended := one[int](e.admin(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
			where application_name = $1 and datname = current_database()`, worker.name)
		if ended == 0 {
			t.Errorf("round %d: there was no connection to end", round)
		}
	}
	e.awaitVersion("counters:1", e.raise())
	stop()
	e.settle()
	e.inStep("counters:*", countersPromise("counters"))
	select {
	case <-worker.ended:
		t.Error("the worker did not survive the loss of its connections")
	default:
	}
}

func TestDrainAppliesTheBacklogAndExits(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 20000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	e.exec("select freshet.create_sink('odd', 'counters', key => 'odd:${id}', filter => 'id % 2 = 1', backfill => false)")
	e.exec("update counters set version = version + 1")
	e.exec("delete from counters where id % 5 = 0")
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	e.inStep("counters:*", countersPromise("counters"))
	e.inStep("odd:*", countersPromise("odd")+" where id % 2 = 1")

	began := time.Now()
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d with nothing to do", status)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("with nothing to do it took %s", took)
	}

	e.exec("truncate counters")
	e.exec("insert into counters (id) values (1)")
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d after a truncate", status)
	}
	// The lane's part is done; the sweep that it asked for is too, or the next drain's.
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	e.inStep("counters:*", countersPromise("counters"))
}

// Drain does not wait for what was committed after it began.
func TestDrainEndsUnderLoad(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 1000) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	stop := e.load()
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	stop()
	if status := e.process("drain").wait(patience); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	e.inStep("counters:*", countersPromise("counters"))
}
