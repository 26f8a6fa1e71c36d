package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// liveRows are changed at random. A round watches Freshet for long enough for a lane to renew its slice once, which it does after 22 to
// 38 s, and those that it is compared with for a while.
const (
	liveRows  = 100_000
	sliceTime = 45 * time.Second
	watchTime = 8 * time.Second
)

// latencyIdle is how long a commit takes to be visible where little happens.
func latencyIdle(ctx context.Context, s *stage) ([]result, error) {
	return s.latency(ctx, "latency_idle", 0, 1.5, 5)
}

// latencyLoaded is the same while pgbench changes rows of the same table.
func latencyLoaded(ctx context.Context, s *stage) ([]result, error) {
	var list []result
	for _, rate := range []int{3000, 5000} {
		results, err := s.latency(ctx, fmt.Sprintf("latency_%d", rate), rate, 0, 30)
		if err != nil {
			return nil, err
		}
		list = append(list, results...)
	}
	return list, nil
}

// contender is one that keeps entries in step, and how long that takes it: quantiles in milliseconds, a value a round.
type contender struct {
	name string
	// table is what it follows.
	table string
	watch watch
	over  time.Duration
	serve func(body func() error) error

	p50, p99 series
	// all are those of every round.
	all []time.Duration
	// loads are changes a second that pgbench came to meanwhile.
	loads series
	// lost are changes that it never wrote.
	lost int
}

// latencies are what a round of one contender has shown.
type latencies struct {
	of   *contender
	seen watched
	// load is how many changes a second pgbench came to, and others which part of the processors others had.
	load, others float64
}

func (l latencies) String() string {
	return fmt.Sprintf("%s p50 %.2f ms, p99 %.2f", l.of.name, milliseconds(quantile(l.seen.visible, 0.5)), milliseconds(quantile(l.seen.visible, 0.99)))
}

// count makes them the contender's.
func (l latencies) count() {
	c := l.of
	c.p50 = append(c.p50, milliseconds(quantile(l.seen.visible, 0.5)))
	c.p99 = append(c.p99, milliseconds(quantile(l.seen.visible, 0.99)))
	c.all = append(c.all, l.seen.visible...)
	c.loads = append(c.loads, l.load)
	c.lost += len(l.seen.lost)
}

// latency watches Freshet, a worker made by hand, and a writer that reads and sets the entry itself, one after the other in every
// round, each time in another order. The other two have a table without capture. Without a limit there is no target.
func (s *stage) latency(ctx context.Context, name string, rate int, p50, p99 float64) ([]result, error) {
	rows := s.rows(liveRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	if err := s.makeRows(ctx, plain, rows); err != nil {
		return nil, err
	}
	var handed int64 // how often the lane was handed over in a round
	ours := &contender{name: "Freshet", table: "items", watch: watch{prefix: "items:"}, over: sliceTime, serve: func(body func() error) error {
		return s.serve(ctx, func() (err error) {
			handed, err = s.handOvers(ctx, "items", body)
			return err
		})
	}}
	hand := &contender{name: "the polling worker", table: plain, watch: watch{prefix: "hand:", forgetful: true}, over: watchTime, serve: func(body func() error) error {
		h, err := s.byHand(ctx, plain, nil)
		if err != nil {
			return err
		}
		return errors.Join(body(), h.end())
	}}
	floor := &contender{name: "the writer itself", table: plain, watch: watch{prefix: "direct:", after: s.writeThrough}, over: watchTime, serve: func(body func() error) error { return body() }}
	contenders := []*contender{ours, hand, floor}
	err := s.quietRounds(func(round int) (m measured, err error) {
		all := make([]latencies, len(contenders))
		var said []string
		for i := range contenders {
			if all[i], err = s.measureLatency(ctx, contenders[(i+round)%len(contenders)], rows, rate); err != nil {
				return m, err
			}
			m.noise = max(m.noise, all[i].others)
			said = append(said, all[i].String())
			if rate > 0 {
				said = append(said, fmt.Sprintf("beside %.0f other changes/s%s", all[i].load, unloaded(rate, all[i].load)))
			}
		}
		m.said = strings.Join(append(said, fmt.Sprintf("%d hand-overs", handed)), ", ")
		m.count = func() {
			for _, l := range all {
				l.count()
			}
		}
		return m, nil
	})
	if err != nil {
		return nil, err
	}
	if hand.lost > 0 {
		s.say("  the worker made by hand never wrote %d of the changes", hand.lost)
	}
	list := append(besideHand(name, ours, hand, p50, p99),
		floor.p50.judged(name+"_writer_p50", "ms", "", nil), floor.p99.judged(name+"_writer_p99", "ms", "", nil))
	return append(list, loads(name, rate, ours, hand, floor)...), s.exec(ctx, "drop table "+plain)
}

// besideHand are the quantiles of ours beside those of the worker made by hand.
func besideHand(name string, ours, hand *contender, p50, p99 float64) []result {
	tenth, tenthMet := most(0.1)
	first := ours.p50.beside(name+"_p50", "ms", "a polling worker", hand.p50, tenth, tenthMet)
	if p50 > 0 {
		first = ours.p50.beside(name+"_p50", "ms", "a polling worker", hand.p50, fmt.Sprintf("at most %v ms; %s", p50, tenth),
			func(v, r float64) bool { return v <= p50 && tenthMet(v, r) })
	}
	return []result{
		first,
		ours.p99.beside(name+"_p99", "ms", "a polling worker", hand.p99, fmt.Sprintf("at most %v ms; %s", p99, tenth),
			func(v, r float64) bool { return v <= p99 && tenthMet(v, r) }),
		// Of all rounds together: a round alone has too few for it.
		series{milliseconds(quantile(ours.all, 0.999))}.judged(name+"_p999", "ms", "", nil),
	}
}

// leastLoad is what a rate has to come to: what is measured is latency under that load, and without it something else.
func leastLoad(rate int) float64 { return 0.95 * float64(rate) }

// unloaded says of a load that was not reached what the figures are of.
func unloaded(rate int, load float64) string {
	if load >= leastLoad(rate) {
		return ""
	}
	return fmt.Sprintf(": less than the %d that were wanted, and its figures are of that", rate)
}

// loads judges what load each contender was measured under, where there was one.
func loads(name string, rate int, ours, hand, floor *contender) (list []result) {
	if rate == 0 {
		return nil
	}
	for _, c := range []struct {
		name string
		of   *contender
	}{{"_load", ours}, {"_load_by_hand", hand}, {"_load_writer", floor}} {
		list = append(list, c.of.loads.judged(name+c.name, "changes/s", fmt.Sprintf("at least %.0f", leastLoad(rate)), func(v float64) bool { return v >= leastLoad(rate) }))
	}
	return list
}

// measureLatency is a round of one contender, on a table that is as fresh for one as for another.
func (s *stage) measureLatency(ctx context.Context, c *contender, rows, rate int) (l latencies, err error) {
	l.of = c
	if err := s.fresh(ctx, c.table); err != nil {
		return l, err
	}
	w := c.watch
	w.update, w.rows, w.least, w.most = markItem(c.table), rows, 5*time.Millisecond, 50*time.Millisecond
	err = c.serve(func() (err error) {
		l.load, err = s.underLoad(ctx, c.table, rows, rate, func() (err error) {
			l.others, err = others(func() (err error) {
				l.seen, err = s.watch(ctx, w, func(ctx context.Context) error { return pause(ctx, c.over/time.Duration(s.scale)) })
				return err
			})
			return err
		})
		return err
	})
	if err == nil && len(l.seen.visible) == 0 {
		err = fmt.Errorf("of %s no change was seen", c.name)
	}
	return l, err
}

// handOvers is how many times lanes of a sink were handed over during body, once they are taken.
func (s *stage) handOvers(ctx context.Context, sink string, body func() error) (int64, error) {
	if err := s.ready(ctx, sink); err != nil {
		return 0, err
	}
	before, err := s.epochs(ctx, sink)
	if err != nil {
		return 0, err
	}
	if err := body(); err != nil {
		return 0, err
	}
	after, err := s.epochs(ctx, sink)
	return after - before, err
}

// epochs are how many times lanes of a sink were taken.
func (s *stage) epochs(ctx context.Context, sink string) (int64, error) {
	return one[int64](ctx, s, "select sum(l.epoch)::bigint from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = $1 and l.kind = 'sync'", sink)
}

// underLoad has pgbench change rows of a table for as long as body takes, so many a second, and says how many there were; with 0, none.
func (s *stage) underLoad(ctx context.Context, table string, rows, rate int, body func() error) (load float64, err error) {
	if rate == 0 {
		return 0, body()
	}
	count := func() (int64, time.Time, error) {
		at := time.Now()
		n, err := one[int64](ctx, s, "select sum(stock) from "+table)
		return n, at, err
	}
	idle, _, err := count()
	if err != nil {
		return 0, err
	}
	script := fmt.Sprintf("\\set id random(1, %[2]d)\nupdate %[1]s set stock = stock + 1, updated_at = now() where id = :id;\n", table, rows)
	stop, err := s.pgbench(script, 8, rate)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// It connects first.
	if err := s.await(ctx, fmt.Sprintf("select sum(stock) > $1 from %s", table), idle); err != nil {
		return 0, err
	}
	before, begin, err := count()
	if err != nil {
		return 0, err
	}
	if err := body(); err != nil {
		return 0, err
	}
	after, end, err := count()
	return float64(after-before) / end.Sub(begin).Seconds(), err
}

// writeThrough is what a writer does that keeps the entry itself: read the row, set the key.
func (s *stage) writeThrough(ctx context.Context, conn *pgx.Conn, id int) error {
	var value []byte
	if err := conn.QueryRow(ctx, fmt.Sprintf("select to_jsonb(%[1]s) from %[1]s where id = $1", plain), id).Scan(&value); err != nil {
		return err
	}
	return s.cache.Set(ctx, fmt.Sprintf("direct:%d", id), value, 0).Err()
}
