package metrics

import (
	"context"
	"fmt"
	"maps"
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
	// AsOf is up to when a lane has applied everything, nil while it never has.
	AsOf *time.Time
}

// Keeper is who knows what the worker holds.
type Keeper interface {
	// Leases are those that are held now.
	Leases() []Lease
	// Now is by the clock that AsOf is by.
	Now() time.Time
	// Beaten is how long ago the last heartbeat succeeded, false before the first.
	Beaten() (time.Duration, bool)
}

// States are those of the view status.
func States() []string {
	return []string{"warming", "live", "behind", "rewarming", "paused", "lapsed", "failing", "blocked", "unserved", "dropping"}
}

// Watch shows the state of what keeper holds, and of the database, from now on. It is
// called once.
func (m *Metrics) Watch(db *pgxpool.Pool, keeper Keeper, kinds ...string) {
	m.registry.MustRegister(&states{
		metrics: m, db: db, keeper: keeper, kinds: kinds,
		lag: newDesc(lagSeconds), pending: newDesc(pendingChanges), held: newDesc(leasesHeld),
		age: newDesc(heartbeatAge), bytes: newDesc(changeTableBytes), state: newDesc(sinkState),
		failing: newDesc(failingEntries), gaps: newDesc(captureGaps),
		missing: make(map[string]time.Time),
	})
}

// states are looked up when somebody asks.
type states struct {
	metrics *Metrics
	db      *pgxpool.Pool
	keeper  Keeper
	kinds   []string

	lag, pending, held, age, bytes, state, failing, gaps *prometheus.Desc

	mu      sync.Mutex
	sampled time.Time
	last    *sample
	// missing is since when changes of a sink's source may not have been captured: nothing later
	// is known to be applied. Kept while Postgres is away.
	missing map[string]time.Time
}

// Describe implements prometheus.Collector.
func (s *states) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.lag, s.pending, s.held, s.age, s.bytes, s.state, s.failing, s.gaps} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	known, missing := s.sample()
	now := s.keeper.Now()
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
		if l.AsOf != nil {
			asOf := *l.AsOf
			if since, is := missing[l.Sink]; is && since.Before(asOf) {
				asOf = since
			}
			show(s.lag, max(now.Sub(asOf), 0).Seconds(), l.Sink, l.Target, l.Shard)
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
	if known == nil {
		return
	}
	for source, bytes := range known.bytes {
		show(s.bytes, float64(bytes), source)
	}
	for source, gaps := range known.gaps {
		show(s.gaps, float64(gaps), source)
	}
	for of, is := range known.states {
		for _, state := range States() {
			value := 0.0
			if is[state] {
				value = 1
			}
			show(s.state, value, of.sink, of.target, state)
		}
		for state := range is {
			if !slices.Contains(States(), state) { // the schema is newer than this worker
				show(s.state, 1, of.sink, of.target, state)
			}
		}
		show(s.failing, float64(known.failing[of]), of.sink, of.target)
	}
}

// sample is what Postgres knows.
type sample struct {
	pending     map[int64]int64
	bytes, gaps map[string]int64
	failing     map[served]int64
	// states are those that lanes of a sink are in: several if it has several shards.
	states map[served]map[string]bool
}

// served is a sink on one of its targets.
type served struct{ sink, target string }

// sample returns what Postgres said last, or says now; nil when it does not answer. missing is
// as in states.
func (s *states) sample() (last *sample, missing map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sampled.IsZero() || time.Since(s.sampled) >= sampleEvery {
		ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
		defer cancel()
		s.last, _ = s.ask(ctx) // the error is counted where it happened
		s.sampled = time.Now()
	}
	return s.last, maps.Clone(s.missing)
}

// ask also lets the counters of sinks go that are no more, and keeps s.missing.
func (s *states) ask(ctx context.Context) (*sample, error) {
	var lanes []int64
	for _, l := range s.keeper.Leases() {
		if l.Lane {
			lanes = append(lanes, l.ID)
		}
	}
	// Before the question: the counters of a sink that is made later are not in it.
	before := s.metrics.known()
	var (
		found = &sample{
			pending: make(map[int64]int64), bytes: make(map[string]int64), gaps: make(map[string]int64),
			failing: make(map[served]int64), states: make(map[served]map[string]bool),
		}
		sinks = make(map[string]bool)
		// since when changes may be missing, as the gaps say, and of which sinks they may be
		// although no gap says so
		gaps     = make(map[string]time.Time)
		unmended = make(map[string]bool)

		what, name, target, state string
		id, value                 int64
		at                        *time.Time
	)
	// Rows say what it is about, of which lease, of which sink or source, on which target, a word, a number, a moment.
	read := func(sql string, args ...any) error {
		rows, err := s.db.Query(ctx, sql, args...)
		if err == nil {
			_, err = pgx.ForEachRow(rows, []any{&what, &id, &name, &target, &state, &value, &at}, func() error {
				switch of := (served{name, target}); what {
				case "pending":
					found.pending[id] = value
				case "bytes":
					found.bytes[name] = value
				case "gaps":
					found.gaps[name] = value
				case "failing":
					found.failing[of] = value
				case "state":
					if found.states[of] == nil {
						found.states[of] = make(map[string]bool)
					}
					found.states[of][state] = true
				case "sink":
					sinks[name], unmended[name] = true, value > 0
					if at != nil {
						gaps[name] = *at
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("look up metrics: %w", err)
		}
		return nil
	}
	if err := read(`
		select 'gaps', 0::bigint, o.name, '', '', count(g.source_id), null::timestamptz
		from (` + sources + `) o
		left join freshet.capture_gap g on g.source_id = o.id
		group by o.name
		union all
		select 'state', 0, v.sink, v.target, v.state, 0, null
		from freshet.status v
		union all
		select 'failing', 0, s.name, f.target, '', count(*), null
		from freshet.failure f
		join freshet.sink s on s.id = f.sink_id
		group by s.name, f.target
		union all
		select 'sink', 0, s.name, '', '', (o.mend_error is not null)::int, (select min(g.at) from freshet.capture_gap g where g.source_id = s.source_id)
		from freshet.sink s
		join freshet.source o on o.id = s.source_id`); err != nil {
		return nil, err
	}
	// By itself, for it waits where somebody has locked a change table: then this is what is not known.
	_ = read(`
		select 'pending', l.id, '', '', '', freshet.pending(s.source_id, coalesce(l.passed, split_part(l.cursor, ' ', 1)::pg_snapshot)), null::timestamptz
		from freshet.lease l
		join freshet.sink s on s.id = l.sink_id
		where l.id = any ($1)
		union all
		select 'bytes', 0, o.name, '', '', coalesce(sum(pg_total_relation_size(t.oid)), 0)::bigint, null
		from (`+sources+`) o
		left join pg_class t on t.relnamespace = 'freshet'::regnamespace and t.relkind in ('r', 'p')
		    and t.relname ~ '^changes_[0-9]+(_[0-9]+)?$' and split_part(t.relname, '_', 2)::bigint = o.id
		group by o.name`, lanes)
	for _, name := range before {
		if !sinks[name] {
			s.metrics.forget(name)
		}
	}
	now := s.keeper.Now()
	missing := make(map[string]time.Time, len(gaps))
	for name := range sinks {
		since, is := gaps[name]
		// When it came to be that capture cannot be mended is not noted: it is for as long as it
		// has been seen here, and what was captured since may not be all.
		if unmended[name] {
			seen, before := s.missing[name]
			if !before {
				seen = now
			}
			if !is || seen.Before(since) {
				since, is = seen, true
			}
		}
		if is {
			missing[name] = since
		}
	}
	s.missing = missing
	return found, nil
}

// sources are the sources with their names of now.
const sources = `
			select o.id, coalesce(n.nspname || '.' || c.relname, o.schema_name || '.' || o.table_name) as name
			from freshet.source o
			left join pg_class c on c.oid = o.relid
			left join pg_namespace n on n.oid = c.relnamespace`
