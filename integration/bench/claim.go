package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/source"
)

const (
	// claimBatch is how many changes a claim takes: not as many as a lane that has found a large backlog, for the small one has to have some.
	claimBatch = 2000
	// smallBacklog is the one that others are compared with: enough for the claims of one measurement.
	smallBacklog = 10_000
	// claimRepeats is how often each place is measured in a round, of which the median counts.
	claimRepeats = 5
)

// claimScaling measures what one claim costs in front of backlogs of different sizes, with a
// writing transaction open from before the first change, and without; and behind as many that
// are consumed. A small backlog of another table is measured in turn with each.
func claimScaling(ctx context.Context, s *stage) (list []result, err error) {
	rows := s.rows(1_000_000)
	if err := s.exec(ctx, "update freshet.installation set stop_bytes = 1::bigint << 40"); err != nil {
		return nil, err
	}
	large, err := s.makeBacklog(ctx, "pile", rows)
	if err != nil {
		return nil, err
	}
	small, err := s.makeBacklog(ctx, "small", rows)
	if err != nil {
		return nil, err
	}
	held, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer held.Close(context.WithoutCancel(ctx))
	if err := s.pile(ctx, "small", min(rows, smallBacklog)); err != nil {
		return nil, err
	}
	measure := func(of string, from cursor.Cursor) (claimed, error) {
		c, err := s.claimCost(ctx, large, small, from)
		if err == nil {
			s.say("  %s: %s", of, c)
		}
		return c, err
	}

	var costs [2]claimed
	piled := 0
	for i, size := range []int{rows, 10 * rows} {
		for ; piled < size; piled += rows {
			if err := s.pile(ctx, "pile", rows); err != nil {
				return nil, err
			}
		}
		if costs[i], err = measure(fmt.Sprintf("backlog of %d, a transaction open", size), large.from); err != nil {
			return nil, err
		}
	}
	// Consumed and not yet emptied.
	later, err := s.consumed(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.pile(ctx, "pile", min(rows, smallBacklog)); err != nil {
		return nil, err
	}
	behind := fmt.Sprintf("backlog of %d after %d consumed changes", min(rows, smallBacklog), piled)
	consumedOpen, err := measure(behind+", a transaction open", later)
	if err != nil {
		return nil, err
	}
	if _, err := held.Exec(ctx, "rollback"); err != nil {
		return nil, err
	}
	closed, err := measure(fmt.Sprintf("backlog of %d, no transaction open", piled), large.from)
	if err != nil {
		return nil, err
	}
	consumedClosed, err := measure(behind, later)
	if err != nil {
		return nil, err
	}
	same, met := most(1.5)
	return slices.Concat(
		costs[1].results("claim_backlog_10m_open"), costs[0].results("claim_backlog_1m_open"), closed.results("claim_backlog_10m"),
		[]result{
			costs[1].worst().beside("claim_open_transaction", "ms", "none open", closed.worst(), same, met),
			// With a transaction open nobody can remove the versions of rows that came since: whoever reads a row walks over them.
			costs[1].rows.beside("claim_open_transaction_rows", "ms", "reading the rows by their keys alone; none open", closed.rows, "", nil),
		},
		consumedOpen.results("claim_after_10m_open"), consumedClosed.results("claim_after_10m"),
	), s.exec(ctx, "update freshet.installation set stop_bytes = default")
}

// backlog is of one sink, from a moment before the first of its changes on.
type backlog struct {
	sink *catalog.Sink
	from cursor.Cursor
}

// makeBacklog makes a table and its sink.
func (s *stage) makeBacklog(ctx context.Context, name string, rows int) (b backlog, err error) {
	if err := s.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s; create table %[1]s (id bigint primary key, n integer not null) with (fillfactor = 50);
		insert into %[1]s select g, 0 from generate_series(1, %[2]d) g`, name, rows)); err != nil {
		return b, err
	}
	if err := s.exec(ctx, "vacuum (analyze, freeze) "+name); err != nil {
		return b, err
	}
	if err := s.exec(ctx, "select freshet.create_sink($1, $1::text::regclass, backfill => false)", name); err != nil {
		return b, err
	}
	if b.sink, err = catalog.LoadSinkNamed(ctx, s.db, name); err != nil {
		return b, err
	}
	text, err := one[string](ctx, s, "select l.cursor from freshet.lease l join freshet.sink s on s.id = l.sink_id where l.kind = 'sync' and s.name = $1", name)
	if err == nil {
		b.from, err = cursor.Parse(text)
	}
	return b, err
}

// hold is a connection with a transaction open. It has written, and so has an xid of its own.
func (s *stage) hold(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "begin; create temporary table mine as select pg_current_xact_id() as xid"); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// consumed is the cursor of a lane that has applied all changes that there are. It sees those too that began after a transaction
// that is still open, as freshet.cursor_now does not.
func (s *stage) consumed(ctx context.Context) (c cursor.Cursor, err error) {
	window, err := s.snapshot(ctx)
	return cursor.Finished(window), err
}

// pile changes n rows in transactions that are small enough for each change to have a row of the
// change table.
func (s *stage) pile(ctx context.Context, table string, n int) error {
	const together = 16
	return s.alone(ctx, fmt.Sprintf(`do $$ begin
		perform set_config('synchronous_commit', 'off', false);
		for i in 1..%[1]d by %[2]d loop
			update %[3]s set n = n + 1 where id between i and least(i + %[2]d - 1, %[1]d);
			commit;
		end loop;
		end $$`, n, together, table))
}

// claimed is what a claim costs, in milliseconds, a value a round: at places of a backlog, and in front of the small one. Of the
// place where that is most, rows is what it costs to read the same rows by their keys alone.
type claimed struct {
	at          []series
	small, rows series
}

// placeNames are those of what places finds.
var placeNames = []string{"beginning", "middle", "end"}

// worst is, of each round, the place where it cost the most: a median of places would hide that.
func (c claimed) worst() series {
	worst := slices.Clone(c.at[0])
	for _, at := range c.at[1:] {
		for round, cost := range at {
			worst[round] = max(worst[round], cost)
		}
	}
	return worst
}

func (c claimed) String() string {
	var said []string
	for i, at := range c.at {
		said = append(said, fmt.Sprintf("%.2f at its %s", at, placeNames[i]))
	}
	return fmt.Sprintf("ms a claim: %s; in front of the small one %.2f; reading the rows by their keys alone %.2f", strings.Join(said, ", "), c.small, c.rows)
}

// results judge the worst place, and tell of each where there are several.
func (c claimed) results(name string) []result {
	const baseline = "a backlog of 10,000"
	same, met := most(1.5)
	list := []result{c.worst().beside(name, "ms", baseline, c.small, same, met)}
	if len(c.at) > 1 {
		for i, at := range c.at {
			list = append(list, at.beside(name+"_"+placeNames[i], "ms", baseline, c.small, "", nil))
		}
	}
	return list
}

// claimCost measures claims at the beginning of a backlog, in its middle and towards its end, and in front of a small one, in turn.
func (s *stage) claimCost(ctx context.Context, large, small backlog, from cursor.Cursor) (c claimed, err error) {
	// What was piled is vacuumed some time, and with a transaction open again and again.
	if err := s.await(ctx, "select not exists (select from pg_stat_activity where backend_type = 'autovacuum worker')"); err != nil {
		return c, err
	}
	places, err := s.places(ctx, large.sink, from)
	if err != nil {
		return c, err
	}
	c.at = make([]series, len(places))
	for range s.rounds {
		var smallTook series
		took, alone := make([]series, len(places)), make([]series, len(places))
		for range claimRepeats {
			cost, _, err := s.claims(ctx, small.sink, small.from)
			if err != nil {
				return c, err
			}
			smallTook = append(smallTook, cost)
			for i, at := range places {
				cost, rows, err := s.claims(ctx, large.sink, at)
				if err != nil {
					return c, err
				}
				took[i], alone[i] = append(took[i], cost), append(alone[i], rows)
			}
		}
		c.small = append(c.small, smallTook.median())
		worst := 0
		for i := range places {
			c.at[i] = append(c.at[i], took[i].median())
			if took[i].median() > took[worst].median() {
				worst = i
			}
		}
		c.rows = append(c.rows, alone[worst].median())
	}
	return c, nil
}

// places are cursors at the beginning of what is left after one, in its middle and near its end, where there is much.
func (s *stage) places(ctx context.Context, sink *catalog.Sink, from cursor.Cursor) ([]cursor.Cursor, error) {
	places := []cursor.Cursor{from}
	window, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	changes := fmt.Sprintf("freshet.changes_%d", sink.SourceID)
	left, err := one[int64](ctx, s, fmt.Sprintf("select count(*) from %s where not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)", changes), from.Done.String())
	if err != nil || left < 20*claimBatch {
		return places, err
	}
	for _, part := range []int64{2, 10} {
		var (
			xid string
			id  int64
		)
		if err := s.db.QueryRow(ctx, fmt.Sprintf("select xid::text, id from %s order by xid, id offset $1 limit 1", changes), left-left/part).Scan(&xid, &id); err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(xid, 10, 64)
		if err != nil {
			return nil, err
		}
		places = append(places, from.At(window, n, id))
	}
	return places, nil
}

// claims is what each of a few successive claims takes, with reading their rows, as a lane makes them: the next is made while the
// rows of one are read. And what it takes to read those rows by their keys alone, each time those of one claim.
func (s *stage) claims(ctx context.Context, sink *catalog.Sink, at cursor.Cursor) (cost, alone float64, err error) {
	// Nothing that the one before has begun.
	if err := s.await(ctx, `select not exists (select from pg_stat_activity
		where datname = current_database() and state = 'active' and pid <> pg_backend_pid())`); err != nil {
		return 0, 0, err
	}
	reader, err := source.NewShardReader(s.db, sink, nil, 0)
	if err != nil {
		return 0, 0, err
	}
	const claims = 3
	var (
		e     source.Entries
		begin time.Time
		took  time.Duration
		keys  [claims + 1][]int64
	)
	// The first plans and warms, and is of fewer changes.
	for i := range claims + 1 {
		begin = time.Now()
		e.Reset()
		b, err := reader.Claim(ctx, at, claimBatch, &e)
		for ; err == nil; err = reader.Rest(ctx, &b, &e) {
			took += time.Since(begin)
			if keys[i], err = appendIDs(keys[i], &e); err != nil || !b.More() {
				break
			}
			begin = time.Now()
			e.Reset()
		}
		if err != nil {
			return 0, 0, err
		}
		if b.CaughtUp && s.scale == 1 {
			return 0, 0, errors.New("the backlog is too short for what is measured")
		}
		if at = b.Next; i == 0 {
			took = 0
		}
	}
	alone, err = s.readAlone(ctx, sink.Name, keys[:])
	return milliseconds(took) / claims, alone, err
}

// appendIDs appends the ids that entries have in their keys.
func appendIDs(ids []int64, e *source.Entries) ([]int64, error) {
	for i := range e.Len() {
		_, text, _ := strings.Cut(string(e.Key(i)), ":")
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// readAlone is how many milliseconds it takes to read the rows of each of these lists but the first.
func (s *stage) readAlone(ctx context.Context, table string, keys [][]int64) (float64, error) {
	conn, err := s.db.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	var begin time.Time
	for i, list := range keys {
		if i == 1 {
			begin = time.Now()
		}
		rows, err := conn.Query(ctx, fmt.Sprintf("select id, n from %s where id = any ($1)", table), list)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			return 0, err
		}
	}
	return milliseconds(time.Since(begin)) / float64(len(keys)-1), nil
}
