package metrics

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// sampleEvery bounds how often scrapes ask Postgres, however many there are.
	sampleEvery = 5 * time.Second
	// sampleTimeout is what a scrape waits for Postgres before it answers without.
	sampleTimeout = 2 * time.Second
)

// Lease is one that the worker holds.
type Lease struct {
	ID int64
	// Kind is of the lease; Lane says that it is one of sync.
	Kind                string
	Lane                bool
	Sink, Target, Shard string
	// Lag is nil while a lane has never applied everything.
	Lag *time.Duration
}

// Keeper is who knows what the worker holds.
type Keeper interface {
	// Leases are those that are held now.
	Leases() []Lease
	// Beaten is how long ago the last heartbeat succeeded, false before the first.
	Beaten() (time.Duration, bool)
}

// Watch shows the state of what keeper holds, and of the database, from now on. It is
// called once.
func (m *Metrics) Watch(db *pgxpool.Pool, keeper Keeper, kinds ...string) {
	m.registry.MustRegister(&states{
		metrics: m, db: db, keeper: keeper, kinds: kinds,
		lag: newDesc(lagSeconds), pending: newDesc(pendingChanges), held: newDesc(leasesHeld),
		age: newDesc(heartbeatAge), bytes: newDesc(changeTableBytes),
	})
}

// states are looked up when somebody asks.
type states struct {
	metrics *Metrics
	db      *pgxpool.Pool
	keeper  Keeper
	kinds   []string

	lag, pending, held, age, bytes *prometheus.Desc

	mu      sync.Mutex
	sampled time.Time
	last    *sample
}

// Describe implements prometheus.Collector.
func (s *states) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.lag, s.pending, s.held, s.age, s.bytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	known := s.sample()
	held := make(map[string]int, len(s.kinds))
	// A sink that was dropped and made again can have a lane of either for a moment.
	type lane struct{ sink, target, shard string }
	shown := make(map[lane]bool)
	leases := s.keeper.Leases()
	slices.SortFunc(leases, func(a, b Lease) int { return int(b.ID - a.ID) })
	for _, l := range leases {
		held[l.Kind]++
		key := lane{l.Sink, l.Target, l.Shard}
		if !l.Lane || shown[key] {
			continue
		}
		shown[key] = true
		if l.Lag != nil {
			show(s.lag, l.Lag.Seconds(), l.Sink, l.Target, l.Shard)
		}
		if known == nil {
			continue
		}
		if pending, ok := known.pending[l.ID]; ok {
			show(s.pending, float64(pending), l.Sink, l.Target, l.Shard)
		}
	}
	for _, kind := range s.kinds {
		show(s.held, float64(held[kind]), kind)
	}
	if age, ok := s.keeper.Beaten(); ok {
		show(s.age, age.Seconds())
	}
	if known != nil {
		for source, bytes := range known.bytes {
			show(s.bytes, float64(bytes), source)
		}
	}
}

// sample is what Postgres knows.
type sample struct {
	pending map[int64]int64
	bytes   map[string]int64
}

// sample returns what Postgres said last, or says now; nil when it does not answer.
func (s *states) sample() *sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sampled.IsZero() && time.Since(s.sampled) < sampleEvery {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
	defer cancel()
	s.last, _ = s.ask(ctx) // the error is counted where it happened
	s.sampled = time.Now()
	return s.last
}

// ask also lets the counters of sinks go that are no more.
func (s *states) ask(ctx context.Context) (*sample, error) {
	var lanes []int64
	for _, l := range s.keeper.Leases() {
		if l.Lane {
			lanes = append(lanes, l.ID)
		}
	}
	// Before the question: the counters of a sink that is made later are not in it.
	before := s.metrics.known()
	rows, err := s.db.Query(ctx, `
		select l.id, '', freshet.pending(s.source_id, coalesce(l.passed, split_part(l.cursor, ' ', 1)::pg_snapshot))
		from freshet.lease l
		join freshet.sink s on s.id = l.sink_id
		where l.id = any ($1)
		union all
		select 0, coalesce(n.nspname || '.' || c.relname, o.schema_name || '.' || o.table_name),
		       coalesce(sum(pg_total_relation_size(t.oid)), 0)::bigint
		from freshet.source o
		left join pg_class c on c.oid = o.relid
		left join pg_namespace n on n.oid = c.relnamespace
		left join pg_class t on t.relnamespace = 'freshet'::regnamespace and t.relkind in ('r', 'p')
		    and t.relname ~ '^changes_[0-9]+(_[0-9]+)?$' and split_part(t.relname, '_', 2)::bigint = o.id
		group by 2
		union all
		select -1, s.name, 0
		from freshet.sink s`, lanes)
	if err != nil {
		return nil, fmt.Errorf("look up metrics: %w", err)
	}
	found := &sample{pending: make(map[int64]int64), bytes: make(map[string]int64)}
	sinks := make(map[string]bool)
	var (
		id, value int64
		name      string
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &value}, func() error {
		switch {
		case id > 0:
			found.pending[id] = value
		case id == 0:
			found.bytes[name] = value
		default:
			sinks[name] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up metrics: %w", err)
	}
	for _, name := range before {
		if !sinks[name] {
			s.metrics.forget(name)
		}
	}
	return found, nil
}
