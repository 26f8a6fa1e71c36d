package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/source"
)

// reader reads over a pool for a sink.
func (e *env) reader(pool *pgxpool.Pool, sink string) *source.Reader {
	e.t.Helper()
	loaded, err := catalog.LoadSinkNamed(e.t.Context(), pool, sink)
	if err != nil {
		e.t.Fatal(err)
	}
	reader, err := source.NewReader(pool, loaded, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return reader
}

// recorded takes a chunk and keeps all of it.
type recorded struct {
	rows, bytes int
	pieces      []source.Piece
	// most is how many pieces it has room for, 0 for any number.
	most int
}

func (r *recorded) Empty(context.Context, time.Time) (*source.Entries, error) {
	if r.most > 0 && len(r.pieces) == r.most {
		return nil, nil
	}
	return new(source.Entries), nil
}

func (r *recorded) Full(rows, bytes int) bool { return rows >= r.rows || bytes >= r.bytes }
func (r *recorded) Take(_ context.Context, p source.Piece) error {
	r.pieces = append(r.pieces, p)
	return nil
}

// said is rows, entries and upper bound of each piece.
func (r *recorded) said() []string {
	list := make([]string, len(r.pieces))
	for i, p := range r.pieces {
		list[i] = fmt.Sprint(p.Rows, p.Entries.Len(), p.Upper)
	}
	return list
}

func TestChunkIsTakenInPieces(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table pages (id int primary key, kind int not null default 1, body text not null default 'x');
		insert into pages (id) select generate_series(1, 1000);
		insert into pages select g, 1, repeat('large ', 10000) from generate_series(1001, 1010) g;
		insert into pages (id, kind) select g, 2 from generate_series(2001, 2500) g;
		update pages set kind = 0 where id = 2300`)
	e.exec("create table lines (id int primary key, team numeric not null); insert into lines select g, (g / 2) * 1.0 from generate_series(2, 1001) g; create index on lines (team)")
	e.exec("select freshet.create_sink('pages', 'pages', filter => '1 / kind = 1')")
	e.exec("select freshet.create_sink('lines', 'lines', key => 'lines:${team}', value => 'count(*)')")
	for _, c := range []struct {
		name, sink   string
		after, until []string
		limit        int
		want         []string
		last         string
		end          bool
	}{
		{"limit", "pages", nil, nil, 700, []string{"300 300 [300]", "300 300 [600]", "100 100 [700]"}, "{700}", false},
		{"limit at the end of a piece", "pages", []string{"100"}, nil, 600, []string{"300 300 [400]", "300 300 [700]", "0 0 []"}, "{700}", false},
		{"end of the range", "pages", []string{"500"}, []string{"900"}, 700, []string{"300 300 [800]", "100 100 [900]"}, "", true},
		{"large rows", "pages", []string{"900"}, nil, 108, []string{"102 102 [1002]", "2 2 [1004]", "2 2 [1006]", "2 2 [1008]", "0 0 []"}, "{1008}", false},
		{"rows that have no entry", "pages", []string{"1998"}, []string{"2290"}, 700, []string{"290 0 [2290]"}, "", true},
		{"none", "pages", []string{"1100"}, []string{"1900"}, 700, []string{"0 0 []"}, "", true},
		{"a row that raises an error", "pages", []string{"1005"}, nil, 10_000, []string{"2 2 [1007]", "2 2 [1009]", "300 1 [2299]", "201 1 [2500]"}, "", true},
		{"a row that raises an error before the last", "pages", []string{"1005"}, nil, 400, []string{"2 2 [1007]", "2 2 [1009]", "300 1 [2299]", "96 1 [2395]"}, "{2395}", false},
		{"ties", "lines", nil, nil, 400, []string{"400 400 [400.0]"}, "{400.0}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			reader := e.reader(e.db, c.sink)
			to := &recorded{rows: 300, bytes: 100_000}
			read, err := reader.Stream(t.Context(), c.after, c.until, c.limit, to)
			if err != nil {
				t.Fatal(err)
			}
			if got := to.said(); !slices.Equal(got, c.want) {
				t.Errorf("pieces %q, want %q", got, c.want)
			}
			last := ""
			if first := to.pieces[0].Last; first != nil {
				last = *first
			}
			if read.End != c.end || last != c.last {
				t.Errorf("end: %v, last %s; want %v, %s", read.End, last, c.end, c.last)
			}
		})
	}
}

// Who has no room for more rows does not keep a statement open.
func TestChunkEndsWhereThereIsNoRoomForMore(t *testing.T) {
	e := newEnv(t)
	e.exec("create table pages (id int primary key, kind int not null default 1); insert into pages (id) select generate_series(1, 1000)")
	e.exec("select freshet.create_sink('pages', 'pages', filter => '1 / kind = 1')")
	reader := e.reader(e.db, "pages")
	for _, c := range []struct {
		name, before string
		after        []string
		want         []string
		end          bool
	}{
		{"in the middle", "", nil, []string{"300 300 [300]", "300 300 [600]"}, false},
		{"at the end", "", []string{"400"}, []string{"300 300 [700]", "300 300 [1000]"}, true},
		{"before a row that raises an error", "update pages set kind = 0 where id = 801", nil, []string{"300 300 [300]", "300 300 [600]"}, false},
	} {
		if c.before != "" {
			e.exec(c.before)
		}
		to := &recorded{rows: 300, bytes: 100_000, most: 2}
		begin := time.Now()
		read, err := reader.Stream(t.Context(), c.after, nil, 1000, to)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := to.said(); !slices.Equal(got, c.want) || read.End != c.end || read.Rows != 600 {
			t.Errorf("%s: pieces %q, end: %v, %d rows; want %q, %v, 600", c.name, got, read.End, read.Rows, c.want, c.end)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: the statement was open for %v", c.name, took)
		}
	}
}

// A range keeps a connection while it waits for its own rows to be written.
func TestRangesOfManyTargetsDoNotWaitForEachOther(t *testing.T) {
	e := newEnv(t)
	e.targets = map[string]string{"second": serverstest.Redis(t), "third": serverstest.Redis(t)}
	e.inRangesOf(20_000)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 80000) g; analyze users")
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,second,third}', backfill => false)")
	e.start()
	e.settleTargets("default", "second", "third")
	e.exec("select freshet.backfill('users')")
	e.lastBackfill("users")
	e.settle()
	e.inStep("users:*", usersPromise)
}

// The target loses everything in the middle of a backfill: only what was being written is
// looked at again by lanes, and not all that the range was still to come to.
func TestLossDuringABackfillQueuesAChunkAtMost(t *testing.T) {
	const rows = 60_000
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, $1::int) g", rows)
	e.exec("analyze users; select freshet.create_sink('users', 'users', backfill => false)")
	p, _ := e.worker()
	e.settle()
	e.exec("select freshet.backfill('users', rate => 2000)")
	e.await("it is on its way", func() bool { return one[int64](e, "select rows_done from freshet.backfills") > 1000 })
	p.kill()
	// It is nearly all the time, for there is a rate.
	if !one[bool](e, "select bool_and(intent_snapshot is not null and intent_upper is not null) from freshet.backfill_range") {
		t.Fatal("no intent is open, or it has no bound")
	}
	e.redis.FlushDB(t.Context())
	e.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where holder is not null; update freshet.backfill_run set rate = null")
	e.start()
	e.await("all is warm", func() bool {
		return one[bool](e, "select bool_and(state = 'completed') from freshet.backfills")
	})
	e.settle()
	e.inStep("users:*", usersPromise)
	n := one[int](e, "select coalesce(sum(coalesce(tuples, 1)), 0) from freshet.changes_1 where op = 'r'")
	if n > 2000 {
		t.Errorf("%d rows of %d went through the lane of live changes", n, rows)
	}
}

// Tuples that are equal by their order stay together in a chunk, which is small therefore.
func TestGroupsThatTieAreReadInSmallChunks(t *testing.T) {
	e := newEnv(t)
	e.exec("create table lines (id int primary key, team numeric not null, body text)")
	e.exec("insert into lines select g, g, repeat('x', 100) from generate_series(1, 20000) g")
	e.exec("create index on lines (team); analyze lines")
	e.exec("select freshet.create_sink('lines', 'lines', key => 'lines:${team}', value => 'repeat(max(body), 40)')")
	e.start()
	e.lastBackfill("lines")
	e.settle()
	e.inStep("lines:*", "select 'lines:' || team, repeat(body, 40) from lines")
	// Eighty megabytes, of which a chunk has about one.
	if n := one[int](e, "select max(steps)::int from freshet.backfill_range"); n < 60 {
		t.Errorf("it took %d steps", n)
	}
}

// A session can end after it took the control key and before it closed the intent that was open.
func TestIntentThatWasNotClosedIsClosedByTheNextSession(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table docs (id text collate "C" primary key, name text)`)
	e.exec("insert into docs select to_char(g, 'FM00000'), 'x' from generate_series(1, 4000) g")
	e.exec(`insert into docs values ('03500\ufffd', 'y'), ('03499a', 'gone soon')`)
	e.exec("select freshet.create_sink('docs', 'docs', key => 'docs:${id|url}', backfill => false)")
	stop := e.start()
	e.settle()
	// Without a sweep, which would remove it.
	e.exec("select freshet.backfill('docs', filter => 'name <> ''none''', rate => 1000)")
	e.await("some is done", func() bool { return one[int](e, "select rows_done::int from freshet.backfill_range") > 500 })
	stop()
	if position := one[[]string](e, "select position from freshet.backfill_range")[0]; position > "03490" {
		t.Fatalf("it is at %s already", position)
	}
	lease := one[int64](e, "select lease_id from freshet.backfill_range")
	one[bool](e, "select freshet.next_chunk($1, (select epoch from freshet.lease where id = $1), (select definition from freshet.sink), (select steps from freshet.backfill_range where lease_id = $1), 'none', null, 0, null, pg_current_snapshot())", lease)
	// Deleted after the chunk's snapshot. The lane sees it, and then the chunk writes it.
	e.exec("delete from docs where id = '03499a'")
	stale := func() { e.redis.Set(t.Context(), "docs:03499a", `{"id":"03499a","name":"gone soon"}`, 0) }
	stale()
	control := one[string](e, "select 'freshet:' || i.id || ':' || l.sink_id || ':' || l.part from freshet.installation i, freshet.lease l where l.id = $1", lease)
	// JSON does not tell this from bytes that are no UTF-8.
	was := fmt.Sprintf(`["03500\\ufffd"]+%d:2`, one[int64](e, "select steps from freshet.backfill_range"))
	e.redis.HSet(t.Context(), control, "cursor", was)

	// A lock that is held for more than a second makes a step fail.
	tx, err := e.super.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), "lock table only freshet.changes_1 in share mode"); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.await("the control key is taken", func() bool { return e.redis.HGet(t.Context(), control, "cursor").Val() != was })
	e.await("the lane has been there", func() bool { return e.entry("docs:03499a") == "" })
	stale()
	e.await("the step has failed", func() bool {
		return one[bool](e.admin(), "select last_error is not null from freshet.lease where id = $1", lease)
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.lastBackfill("docs")
	e.settle()
	e.inStep("docs:*", `select 'docs:' || replace(id, '\', '%5C'), to_jsonb(d)::text from docs d`)
}

func TestLastWriteOfARangeThatIsLostIsNoLoss(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 20000) g")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	stop := e.start()
	e.settle()
	const key = "select 'freshet:' || i.id || ':' || l.sink_id || ':' || l.part from freshet.installation i, freshet.lease l where l.kind = $1"
	lane := one[string](e, key, "sync")
	was := e.redis.HGetAll(t.Context(), lane).Val()
	e.exec("select freshet.backfill('users')")
	e.lastBackfill("users")
	e.settle()
	stop()
	control := one[string](e, key, "backfill")
	// A failover to a server that has all but the transactions after the last entry.
	e.redis.HSet(t.Context(), lane, "cursor", was["cursor"])
	e.redis.HSet(t.Context(), control, "cursor", fmt.Sprintf("%s+%d:20000",
		e.redis.HGet(t.Context(), control, "cursor").Val(), one[int64](e, "select steps - 1 from freshet.backfill_range")))
	e.start()
	e.exec("update users set name = 'y' where id = 1")
	e.settle()
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms though nothing is lost", n)
	}
	e.inStep("users:*", usersPromise)
}
