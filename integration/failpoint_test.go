package integration

import (
	"bytes"
	wire "encoding/binary"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// moment is when a worker dies: before a commit (or EXEC) is on its way, or after the
// server has answered it and before the worker can know.
type moment int

const (
	never moment = iota
	beforeIt
	afterIt
)

func (m moment) String() string {
	return [...]string{"never", "before", "after"}[m]
}

// event is a commit or an EXEC by what it is for, and the how manieth of its kind it is:
// things go on beside each other, so its place among all would be another each time.
type event struct {
	what string
	n    int
}

// deathbed sees every commit in Postgres and every EXEC in Redis of one worker go by, and
// has the worker die at one of them: from then on nothing gets through, and the process is
// killed.
type deathbed struct {
	mu   sync.Mutex
	seen []event
	at   event
	when moment
	dead bool
	kill func()
}

// expect has the worker die at an event, counted from now on.
func (d *deathbed) expect(at event, when moment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen, d.at, d.when, d.dead = nil, at, when, false
}

// spare lets the worker live.
func (d *deathbed) spare() { d.expect(event{}, never) }

// events are what was seen since expect.
func (d *deathbed) events() []event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.seen)
}

// died reports whether the worker has died since expect.
func (d *deathbed) died() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

func (d *deathbed) die() {
	d.dead = true
	d.kill()
}

// begun notes an event, and reports whether it must not go on.
func (d *deathbed) begun(what string) (e event, stop bool) {
	e.what = what
	for _, other := range d.seen {
		if other.what == what {
			e.n++
		}
	}
	d.seen = append(d.seen, e)
	if d.when == beforeIt && e == d.at && !d.dead {
		d.die()
	}
	return e, d.dead
}

// answered says that the server has answered an event, and reports whether the answer must
// not go on.
func (d *deathbed) answered(e event) (stop bool) {
	if d.when == afterIt && e == d.at && !d.dead {
		d.die()
	}
	return d.dead
}

// redisWatch is the guard before Redis. Its connections send their commands in pipelines.
type redisWatch struct{ *deathbed }

// redisLink is what is known of a connection: the control key it is for, the EXEC that is
// not answered yet, and the end of what went each way, in which a word may have begun.
type redisLink struct {
	key     string
	pending *event
	tail    [2][]byte
}

var (
	execCommand = []byte("\r\n*1\r\n$4\r\nexec\r\n")
	// MULTI and whatever is queued are answered by lines that begin otherwise.
	execAnswer = []byte("\r\n*")
	// controlKey finds the sink and the kind of a lane's or a range's control key.
	controlKey = regexp.MustCompile(`freshet:[^:\s]+:(\d+:[a-z]*)`)
)

func (w redisWatch) pass(l *link, d direction, piece []byte) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, true
	}
	if l.memory == nil {
		l.memory = new(redisLink)
	}
	m := l.memory.(*redisLink)
	if d == toServer {
		if found := controlKey.FindSubmatch(piece); found != nil && !strings.HasSuffix(string(found[1]), "owner") {
			m.key = string(found[1])
			if sink, part, _ := strings.Cut(m.key, ":"); sink > "2" {
				m.key = "brief:" + part // made anew each time
			}
		}
	}
	word := execCommand
	if d == toWorker {
		word = execAnswer
		if m.pending == nil {
			return piece, false
		}
	}
	all := append(m.tail[d], piece...)
	m.tail[d] = slices.Clone(all[max(0, len(all)-len(word)+1):])
	if !bytes.Contains(all, word) {
		return piece, false
	}
	m.tail[d] = nil
	if d == toWorker {
		stop := w.answered(*m.pending)
		m.pending = nil
		if stop {
			return nil, true
		}
		return piece, false
	}
	e, stop := w.begun("exec " + m.key)
	if stop {
		return nil, true
	}
	m.pending, m.tail[toWorker] = &e, nil
	return piece, false
}

// postgresWatch is the guard before Postgres. What ends with a Sync or is a simple query
// may commit; of that, what is of no consequence is not counted.
type postgresWatch struct{ *deathbed }

// postgresLink is what is known of a connection.
type postgresLink struct {
	started    bool
	rest       [2][]byte
	statements map[string]string
	// cycle is the text of what was asked since the last Sync.
	cycle []string
	// transaction is what was asked for since a begin, nil outside of one.
	transaction []string
	// pending are the cycles that are not answered yet, nil for those that do not count.
	pending []*event
}

// consequence tells the statements of a piece of work that change something in Postgres
// from those that only read, and from what workers do all the time, work or not.
var consequence = regexp.MustCompile(`^(insert|update|delete|with begun|commit:)|^select freshet\.(stamp|next|request|rewarm|renew|touch|release|finish|record|continue|stop)|` +
	`freshet\.(request_|record_|retry|continue_|stop_)`)

// constant is what changes something all the time.
var constant = regexp.MustCompile(`river_leader|river_client|river_queue|river_notification|JobSchedule|pg_logical_emit_message|skip locked|heartbeat\(|take_over\(|retry_failures`)

func (w postgresWatch) pass(l *link, d direction, piece []byte) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, true
	}
	if l.memory == nil {
		l.memory = &postgresLink{statements: make(map[string]string)}
	}
	m := l.memory.(*postgresLink)
	data := append(m.rest[d], piece...)
	on := make([]byte, 0, len(data))
	for {
		// All messages but the first one of a worker begin with their type.
		typed := 1
		if d == toServer && !m.started {
			typed = 0
		}
		if len(data) < typed+4 {
			break
		}
		n := typed + int(wire.BigEndian.Uint32(data[typed:]))
		if len(data) < n {
			break
		}
		message := data[:n]
		data = data[n:]
		if d == toServer && !m.started {
			m.started = true
		} else if w.message(m, d, message[0], message[5:]) {
			return on, true
		}
		on = append(on, message...)
	}
	m.rest[d] = slices.Clone(data)
	return on, false
}

// message reports whether the worker dies of it.
func (w postgresWatch) message(m *postgresLink, d direction, kind byte, body []byte) bool {
	text := func() string {
		_, rest, _ := bytes.Cut(body, []byte{0})
		text, _, _ := bytes.Cut(rest, []byte{0})
		return string(text)
	}
	name := func() string {
		name, _, _ := bytes.Cut(body, []byte{0})
		return string(name)
	}
	switch {
	case d == toServer && kind == 'P':
		m.statements[name()] = text()
	case d == toServer && kind == 'B':
		m.cycle = append(m.cycle, m.statements[text()]) // portal first, then the statement
	case d == toServer && kind == 'Q':
		m.cycle = append(m.cycle, name())
		return w.cycle(m)
	case d == toServer && kind == 'S':
		return w.cycle(m)
	case d == toWorker && kind == 'Z' && len(m.pending) > 0:
		e := m.pending[0]
		m.pending = m.pending[1:]
		return e != nil && w.answered(*e)
	}
	return false
}

// cycle reports whether the worker dies at the end of what it asked for at once.
func (w postgresWatch) cycle(m *postgresLink) bool {
	what := strings.Join(strings.Fields(strings.Join(m.cycle, "; ")), " ")
	m.cycle = nil
	switch {
	case strings.HasPrefix(what, "begin"):
		// Its statements commit together.
		m.transaction = []string{what}
		what = ""
	case m.transaction != nil && (what == "commit" || what == "rollback"):
		what += ": " + strings.Join(m.transaction, "; ")
		m.transaction = nil
	case m.transaction != nil:
		m.transaction = append(m.transaction, what)
		what = ""
	}
	if !consequence.MatchString(what) || strings.Contains(what, "read only") || constant.MatchString(what) {
		m.pending = append(m.pending, nil)
		return false
	}
	e, stop := w.begun(what)
	m.pending = append(m.pending, &e)
	return stop
}

// mortal is an env whose worker dies where it is told to, and is followed by another.
type mortal struct {
	*env
	bed     *deathbed
	process *process
}

const riskyPromise = "select 'risky:' || id, to_jsonb(r)::text from risks r where version % 5 <> 0"

func newMortal(t *testing.T) *mortal {
	t.Helper()
	m := &mortal{env: newEnv(t), bed: new(deathbed)}
	m.exec(counters)
	m.exec("insert into counters (id, pad) select g, 'pad' from generate_series(1, 20) g")
	m.exec("select freshet.create_sink('counters', 'counters')")
	// Of another table: a sweep of one sink also helps the others of its source. Dividing by
	// zero, a part of its entries fails.
	m.exec("create table risks (like counters including all)")
	m.exec("insert into risks select * from counters")
	m.exec("select freshet.create_sink('risky', 'risks', key => 'risky:${id}', filter => '10 / (version % 5) > 0')")
	var p *proxy
	p, m.redisURL = newProxy(t, m.redisURL)
	p.guarded(redisWatch{m.bed})
	p, m.workerURL = newProxy(t, m.workerURL)
	p.guarded(postgresWatch{m.bed})
	return m
}

// born starts a worker, which finds the leases of a dead one silent.
func (m *mortal) born() {
	m.t.Helper()
	m.end()
	m.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where finished_at is null")
	m.bed.mu.Lock()
	defer m.bed.mu.Unlock()
	m.process = m.env.process("worker")
	p := m.process
	m.bed.kill = func() { _ = p.cmd.Process.Kill() }
}

// end kills the worker, unless it has died already.
func (m *mortal) end() {
	m.t.Helper()
	if m.process != nil {
		_ = m.process.cmd.Process.Kill()
		<-m.process.ended
	}
}

func (m *mortal) inStepSoon() {
	m.t.Helper()
	m.follow("counters:*", countersPromise("counters"))
	m.follow("risky:*", riskyPromise)
}

// done waits until no backfill, sweep or purge is left, or the worker has died.
func (m *mortal) done() {
	m.t.Helper()
	m.await("the work is done", func() bool {
		return m.bed.died() || one[bool](m.env, "select not exists (select from freshet.lease where kind in ('backfill', 'sweep', 'purge') and finished_at is null)")
	})
}

// life is a piece of work that a worker may die of.
type life struct {
	name string
	// before is done while the worker cannot die, work is what it may die of.
	before, work func(m *mortal)
	// over reports whether the work has had its effect.
	over func(m *mortal) bool
}

func (m *mortal) change() {
	m.t.Helper()
	m.exec("update counters set version = version + 1 + id % 2 where id <= 10")
	m.exec("delete from counters where id = (select max(id) from counters)")
	m.exec("insert into counters (id, pad) select max(id) + 1, 'pad' from counters")
}

func lives() []life {
	none := func(*mortal) {}
	matches := func(m *mortal) bool {
		return len(m.difference("counters:*", countersPromise("counters"))) == 0 &&
			len(m.difference("risky:*", riskyPromise)) == 0
	}
	return []life{
		{"a batch", none, (*mortal).change, matches},
		{"a batch with entries that fail", none, func(m *mortal) { m.exec("update risks set version = version + 1") }, matches},
		{"a truncate", none, func(m *mortal) {
			// Other rows and other keys each time.
			first := one[int](m.env, "select max(id) + 1 from counters")
			m.exec("truncate counters")
			m.exec("insert into counters (id, version, pad) select g, g, 'pad' from generate_series($1::int, $1::int + 9) g", first)
		}, matches},
		{"a backfill", none, func(m *mortal) {
			keys := m.redis.Keys(m.t.Context(), "counters:*").Val()
			if err := m.redis.Del(m.t.Context(), keys...).Err(); err != nil {
				m.t.Fatal(err)
			}
			m.exec("select freshet.backfill('counters')")
			m.change()
		}, matches},
		{"a sweep", none, func(m *mortal) {
			if err := m.redis.Set(m.t.Context(), "counters:999", "{}", 0).Err(); err != nil {
				m.t.Fatal(err)
			}
			m.exec("select freshet.sweep('counters')")
		}, matches},
		{"a change of shards", none, func(m *mortal) {
			m.change()
			m.exec("select freshet.alter_sink('counters', shards => $1)", 3-m.lanes("counters"))
			m.change()
		}, matches},
		{"a drop", func(m *mortal) {
			m.exec("select freshet.create_sink('brief', 'counters', key => 'brief:${id}')")
			m.follow("brief:*", countersPromise("brief"))
			m.done()
		}, func(m *mortal) {
			m.exec("select freshet.drop_sink('brief')")
		}, func(m *mortal) bool {
			left := m.redis.Keys(m.t.Context(), "brief:*").Val()
			return len(left) == 0 && one[int](m.env, "select count(*) from freshet.sinks where sink = 'brief'") == 0
		}},
		{"a take-over", (*mortal).end, func(m *mortal) {
			m.change()
			m.exec("select freshet.backfill('counters')")
			m.born()
		}, matches},
	}
}

// some are at most n of a list, from all over it: make test-faults takes all.
func some[T any](all []T, n int) []T {
	if len(all) <= n {
		return all
	}
	list := make([]T, n)
	for i := range list {
		list[i] = all[i*len(all)/n]
	}
	return list
}

// except are those of a list that are not among some of them.
func except[T comparable](all, some []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(e T) bool { return slices.Contains(some, e) })
}

// A worker that dies before or after any commit or EXEC leaves nothing undone that has to
// follow: the next one finds and does it.
func TestDeathAtAnyCommitLosesNothing(t *testing.T) {
	t.Parallel()
	for _, l := range lives() {
		t.Run(l.name, func(t *testing.T) {
			m := newMortal(t)
			m.born()
			m.inStepSoon()
			// What follows the first backfill is over too.
			m.settle()

			l.before(m)
			m.bed.spare()
			l.work(m)
			m.await("the work has its effect", func() bool { return l.over(m) })
			m.done()
			events := m.bed.events()
			for _, e := range events {
				t.Logf("%.100s (%d)", e.what, e.n)
			}
			// After one is before the next, as long as nothing goes on beside it.
			when, chosen := []moment{afterIt}, some(events, 4)
			if os.Getenv("FRESHET_TEST_EXHAUSTIVE") != "" {
				when, chosen = []moment{beforeIt, afterIt}, events
			}
			deaths, wanted := 0, max(len(chosen)*len(when)/3, 1)
			// What was done once need not be done the next time: then it dies of others instead.
			for i, e := range slices.Concat(chosen, except(events, chosen)) {
				if i >= len(chosen) && deaths >= wanted {
					break
				}
				for _, when := range when {
					m.bed.spare()
					l.before(m)
					m.bed.expect(e, when)
					l.work(m)
					m.await("the work has its effect or the worker dies", func() bool { return m.bed.died() || l.over(m) })
					m.done()
					if died := m.bed.died(); died {
						<-m.process.ended
						deaths++
						m.bed.spare()
						m.born()
					} else {
						m.bed.spare() // this time it had less to do
					}
					m.await("the work has its effect", func() bool { return l.over(m) })
					m.done()
					m.await("the work keeps its effect", func() bool { return l.over(m) })
					if t.Failed() {
						t.Fatalf("the worker died %s %.100s (%d)", when, e.what, e.n)
					}
				}
			}
			m.inStepSoon()
			t.Logf("died %d times", deaths)
			if deaths < wanted {
				t.Errorf("it died %d times only, of %d", deaths, wanted)
			}
		})
	}
}
