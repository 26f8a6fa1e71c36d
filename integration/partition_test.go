package integration

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

const eventsTable = `
create table events (id bigint not null, day date not null, kind text, n int, primary key (id, day)) partition by range (day);
create table events_jan partition of events for values from ('2026-01-01') to ('2026-02-01');
create table events_feb (n int, gone int, kind text, day date not null, id bigint not null);
alter table events_feb drop column gone;
alter table events attach partition events_feb for values from ('2026-02-01') to ('2026-03-01');
create table events_rest partition of events default`

const eventsPromise = `select 'events:' || id || ':' || day, to_jsonb(e)::text from events e`

func TestPartitionedTableFollowsItsLeaves(t *testing.T) {
	e := newEnv(t)
	e.exec(eventsTable)
	e.exec("insert into events select g, '2026-01-01'::date + g % 80, 'kind', g from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('events', 'events')")
	e.refused("is a partition", "select freshet.create_sink('leaf', 'events_jan')")
	e.start()
	e.settle()
	e.inStep("events:*", eventsPromise)

	// Straight to a leaf, through the parent, between leaves, into a leaf made later.
	e.exec("insert into events_jan select g, '2026-01-15', 'leaf', g from generate_series(10001, 10100) g")
	e.exec("update events_feb set n = -n where id % 3 = 0")
	e.exec("delete from events_rest where id % 5 = 0")
	e.exec("update events set day = day + 31 where id % 7 = 0")
	e.exec("create table events_apr partition of events for values from ('2027-04-01') to ('2027-05-01')")
	e.exec("insert into events select g, '2027-04-10', 'later', g from generate_series(20001, 20100) g")
	e.exec("update events_apr set kind = 'changed' where id % 2 = 0")
	e.exec("insert into events values (1, '2027-04-11', 'up', 1) on conflict (id, day) do update set n = excluded.n")
	e.admin().exec("begin; set local session_replication_role = replica; insert into events_apr values (30001, '2027-04-20', 'loaded', 1); commit")
	e.settle()
	e.inStep("events:*", eventsPromise)

	e.exec("truncate events_jan")
	e.settle()
	e.inStep("events:*", eventsPromise)
	e.exec("select freshet.backfill('events')")
	e.settle()
	e.inStep("events:*", eventsPromise)
	e.exec("truncate events")
	e.settle()
	e.inStep("events:*", eventsPromise)

	e.exec("select freshet.drop_sink('events')")
	if n := one[int](e, "select count(*) from pg_trigger where tgname like 'freshet%'"); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
}

// A subtransaction in every row would slow down every other session of the server.
func TestBulkLoadOfAPartitionedTableNeedsFewSubtransactions(t *testing.T) {
	e := newEnv(t)
	e.exec("create table p (id int primary key, n int) partition by hash (id)")
	for _, leaf := range []string{"0", "1", "2", "3"} {
		e.exec("create table p_" + leaf + " partition of p for values with (modulus 4, remainder " + leaf + ")")
	}
	e.exec("select freshet.create_sink('p', 'p', backfill => false)")
	e.exec("insert into p select g, g from generate_series(1, 5000) g")
	e.exec("update p set n = n + 1")
	// Rows of a subtransaction carry its own id.
	if used := one[int](e, "select count(distinct xmin::text) from freshet.changes_1"); used > 12 {
		t.Errorf("two statements used %d transaction ids; want one and one for each leaf", used)
	}
	if n := one[int](e, "select count(*) from freshet.changes_1"); n != 10000 {
		t.Errorf("%d changes were captured; want 10000", n)
	}
}

// The application makes, attaches, detaches and drops partitions as it pleases: what
// the parent's triggers need in a new leaf comes with it.
func TestPartitionsOfARoleWithoutRightsAreCaptured(t *testing.T) {
	e := newEnv(t).admin()
	role := "keeper_of_" + one[string](e, "select current_database()")
	e.exec("create role " + role)
	t.Cleanup(func() {
		if _, err := e.db.Exec(context.Background(), "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	})
	e.exec("grant create on schema public to " + role)
	as := func(statements ...string) {
		t.Helper()
		e.transaction(append([]string{"set local role " + role}, statements...)...)
	}
	as(eventsTable, "insert into events values (1, '2026-01-05', 'early', 1), (2, '2026-02-05', 'early', 2)")
	e.exec("select freshet.create_sink('events', 'events')")
	e.start()
	follow := func() {
		t.Helper()
		e.follow("events:*", eventsPromise)
	}
	follow()

	as("create table events_mar partition of events for values from ('2026-03-01') to ('2026-04-01')",
		"insert into events select g, '2026-03-05', 'created', g from generate_series(1, 20) g",
		"insert into events_mar values (21, '2026-03-21', 'straight', 21)")
	follow()
	as("update events_mar set n = -n where id % 2 = 0", "update events set id = id + 100 where day = '2026-03-05' and id % 5 = 0",
		"delete from events_mar where id % 3 = 0", "update events set day = '2026-01-09' where id = 21")
	follow()

	// With columns in another order, an index of its own and a level below it.
	as("create table events_apr (kind text, n int, day date not null, id bigint not null, primary key (id, day))",
		"alter table events attach partition events_apr for values from ('2026-04-01') to ('2026-05-01')",
		"create table events_may (like events including all) partition by range (id)",
		"create table events_may_rest partition of events_may default",
		"alter table events attach partition events_may for values from ('2026-05-01') to ('2026-06-01')")
	as("insert into events select g, '2026-04-30'::date + g % 2, 'attached', g from generate_series(1, 20) g",
		"update events set day = day + 1 where kind = 'attached' and id % 3 = 0",
		"create table events_may_moved partition of events_may for values from (1000) to (2000)",
		"update events_may set id = id + 1000 where id % 5 = 0",
		"delete from events_may_rest where id % 7 = 0", "delete from events_apr where id % 11 = 0")
	follow()
	as("truncate events", "insert into events values (1, '2026-05-01', 'after', 1)")
	follow()

	// A leaf of its own again is no part of the source.
	as("alter table events detach partition events_apr", "insert into events_apr values ('alone', 1, '2026-04-01', 1)",
		"alter table events attach partition events_apr for values from ('2026-04-01') to ('2026-05-01')",
		"update events set n = 7 where kind = 'alone'")
	follow()
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
}

// held keeps back what one connection sends from the first piece on that has a word in it.
type held struct {
	word    string
	mu      sync.Mutex
	link    *link
	pieces  []byte
	holding chan struct{}
}

func (h *held) pass(l *link, d direction, piece []byte) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d == toWorker || (h.link != nil && h.link != l) || (h.link == nil && !bytes.Contains(piece, []byte(h.word))) {
		return piece, false
	}
	if h.link == nil {
		h.link = l
		close(h.holding)
	}
	h.pieces = append(h.pieces, piece...)
	return nil, false
}

// release sends what was kept back, and holds nothing any more.
func (h *held) release(p *proxy) error {
	p.guarded(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.link.server.Write(h.pieces)
	return err
}

// No change tells that the rows of a partition that was dropped are gone: a chunk that was
// read before, and lands after the sweep that followed, is looked at again.
func TestChunkThatLandsAfterItsPartitionWasDropped(t *testing.T) {
	r := newRefusing(t, nil)
	e := r.env
	e.exec("create table parts (id bigint not null, day date not null, primary key (id, day)) partition by range (day)")
	e.exec("create table parts_jan partition of parts for values from ('2026-01-01') to ('2026-02-01')")
	e.exec("create table parts_feb partition of parts for values from ('2026-02-01') to ('2026-03-01')")
	e.exec("insert into parts select g, date '2026-01-10' + g % 2 * 31 from generate_series(1, 200) g")
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	e.start()
	e.settle()
	chunk := &held{word: "parts:", holding: make(chan struct{})}
	r.proxy.guarded(chunk)
	id := one[int64](e, "select freshet.backfill('parts', filter => 'id > 0')")
	select {
	case <-chunk.holding:
	case <-time.After(patience):
		t.Fatal("no chunk was written")
	}
	dropped := one[time.Time](e, "select clock_timestamp()")
	e.exec("drop table parts_feb")
	e.await("a sweep has followed", func() bool {
		return one[bool](e.admin(), `select coalesce(mended_at > $1, false) and not exists (
			select from freshet.lease where kind = 'sweep' and finished_at is null) from freshet.source`, dropped)
	})
	if err := chunk.release(r.proxy); err != nil {
		t.Fatal(err)
	}
	e.backfilled(id)
	e.settle()
	e.settle()
	e.inStep("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
}

// A partitioned table that is a source is made a partition of another that is one: that is no error, and the latter has its rows.
func TestPartitionedSourceBecomesAPartitionOfAnother(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"sales", "sales_old"} {
		e.exec("create table " + name + " (id bigint not null, day date not null, n int, primary key (id, day)) partition by range (day)")
		e.exec("select freshet.create_sink($1, $1::text::regclass)", name)
	}
	e.exec("create table sales_new partition of sales for values from ('2026-01-01') to ('2027-01-01')")
	e.exec("create table sales_oldest partition of sales_old for values from ('2024-01-01') to ('2025-01-01')")
	e.exec("insert into sales select g, '2026-02-03', g from generate_series(1, 50) g; insert into sales_old select g, '2024-02-03', g from generate_series(1, 50) g")
	e.start()
	e.settle()
	e.mended()
	e.exec("alter table sales attach partition sales_old for values from ('2024-01-01') to ('2026-01-01')")
	e.exec("update sales set n = n + 1 where id < 40")
	e.follow("sales:*", "select 'sales:' || id || ':' || day, to_jsonb(s)::text from sales s")
	e.await("the other sink stops", func() bool { return e.stateOf("sales_old") == "failing" })
	e.exec("update sales_old set n = -1 where id < 10; delete from sales where id > 45")
	e.follow("sales:*", "select 'sales:' || id || ':' || day, to_jsonb(s)::text from sales s")
}
