package metrics

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Cause is why a sink is warmed again.
type Cause string

// The causes of a re-warm.
const (
	// Lost: the target has lost the control key, or acknowledged writes.
	Lost Cause = "lost"
	// Restored: Postgres is another server or timeline than before.
	Restored Cause = "restored"
	// Trimmed: the change table does not reach back to the cursor any more.
	Trimmed Cause = "trimmed"
	// Captured: changes may not have been captured, or the source changed its shape.
	Captured Cause = "capture"
	// Adopted: the keys were taken over from others.
	Adopted Cause = "adopted"
)

// Metrics are those of one worker.
type Metrics struct {
	registry *prometheus.Registry

	written, deleted, failed, batches *prometheus.CounterVec
	fenced, rows                      *prometheus.CounterVec
	rewarms                           *prometheus.CounterVec
	redisErrors, postgresErrors       *prometheus.CounterVec
	takeovers, heartbeatFailures      prometheus.Counter
	upkeepFailures                    prometheus.Counter

	// sinks whose counters there are, so that those of dropped ones can be let go.
	mu    sync.Mutex
	sinks map[string]struct{}
}

// New makes metrics with a registry of their own.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		written:  newCounters(entriesWritten), deleted: newCounters(entriesDeleted), failed: newCounters(entriesFailed),
		batches: newCounters(batches), fenced: newCounters(fencedWrites), rows: newCounters(backfillRows),
		rewarms: newCounters(rewarms), redisErrors: newCounters(redisErrors), postgresErrors: newCounters(postgresErrors),
		takeovers: newCounter(takeovers), heartbeatFailures: newCounter(heartbeatFailures),
		upkeepFailures: newCounter(upkeepFailures),
		sinks:          make(map[string]struct{}),
	}
	m.registry.MustRegister(
		m.written, m.deleted, m.failed, m.batches, m.fenced, m.rows, m.rewarms, m.redisErrors, m.postgresErrors,
		m.takeovers, m.heartbeatFailures, m.upkeepFailures, buildGauge(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler answers scrapes. What cannot be found out is left out of an answer.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Lane counts what one session of a lane does.
type Lane struct {
	written, deleted, failed, batches, fenced prometheus.Counter
}

// Lane resolves the counters of a lane, once for each session.
func (m *Metrics) Lane(sink, target, shard string) *Lane {
	if m == nil {
		return nil
	}
	m.know(sink)
	return &Lane{
		written: m.written.WithLabelValues(sink, target, shard),
		deleted: m.deleted.WithLabelValues(sink, target, shard),
		failed:  m.failed.WithLabelValues(sink, target, shard),
		batches: m.batches.WithLabelValues(sink, target, shard),
		fenced:  m.fenced.WithLabelValues(sink, target),
	}
}

// Batch counts a batch that was written whole.
func (l *Lane) Batch() {
	if l != nil {
		l.batches.Inc()
	}
}

// Written counts entries that were written, so many of them deletions.
func (l *Lane) Written(entries, deleted int) {
	if l != nil {
		l.written.Add(float64(entries - deleted))
		l.deleted.Add(float64(deleted))
	}
}

// Failed counts entries that could not be rendered or written and were removed instead.
func (l *Lane) Failed(entries int) {
	if l != nil {
		l.failed.Add(float64(entries))
	}
}

// Fenced counts a refused write.
func (l *Lane) Fenced() {
	if l != nil {
		l.fenced.Inc()
	}
}

// Work counts what one session of a backfill, a sweep or a purge does.
type Work struct {
	rows, failed, fenced prometheus.Counter
}

// Work resolves the counters of a sink on a target, once for each session.
func (m *Metrics) Work(sink, target string) *Work {
	if m == nil {
		return nil
	}
	m.know(sink)
	return &Work{
		rows: m.rows.WithLabelValues(sink, target), failed: m.failed.WithLabelValues(sink, target, ""),
		fenced: m.fenced.WithLabelValues(sink, target),
	}
}

// Failed counts entries that could not be rendered or written and were removed instead.
func (w *Work) Failed(entries int) {
	if w != nil {
		w.failed.Add(float64(entries))
	}
}

// Rows counts rows that a backfill has read and written.
func (w *Work) Rows(n int) {
	if w != nil {
		w.rows.Add(float64(n))
	}
}

// Fenced counts a refused write.
func (w *Work) Fenced() {
	if w != nil {
		w.fenced.Inc()
	}
}

// Rewarm counts a re-warm that was asked for.
func (m *Metrics) Rewarm(sink string, cause Cause) {
	if m == nil {
		return
	}
	m.know(sink)
	m.rewarms.WithLabelValues(sink, string(cause)).Inc()
}

// TookOver counts leases that were taken from silent workers.
func (m *Metrics) TookOver(leases int) {
	if m != nil {
		m.takeovers.Add(float64(leases))
	}
}

// HeartbeatFailed counts a heartbeat that failed.
func (m *Metrics) HeartbeatFailed() {
	if m != nil {
		m.heartbeatFailures.Inc()
	}
}

// UpkeepFailed counts an attempt to look after capture that failed.
func (m *Metrics) UpkeepFailed() {
	if m != nil {
		m.upkeepFailures.Inc()
	}
}

// RedisError counts an error of a target, unless it is none of the target's.
func (m *Metrics) RedisError(target string, err error) {
	if kind := redisKind(err); m != nil && kind != "" {
		m.redisErrors.WithLabelValues(target, kind).Inc()
	}
}

// PostgresError counts an error of Postgres, unless it is none of its.
func (m *Metrics) PostgresError(err error) {
	if kind := postgresKind(err); m != nil && kind != "" {
		m.postgresErrors.WithLabelValues(kind).Inc()
	}
}

func (m *Metrics) know(sink string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sinks[sink] = struct{}{}
}

// known lists the sinks whose counters there are.
func (m *Metrics) known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.sinks))
	for name := range m.sinks {
		names = append(names, name)
	}
	return names
}

// forget lets the counters of a sink go.
func (m *Metrics) forget(sink string) {
	m.mu.Lock()
	delete(m.sinks, sink)
	m.mu.Unlock()
	for _, vec := range []*prometheus.CounterVec{m.written, m.deleted, m.failed, m.batches, m.fenced, m.rows, m.rewarms} {
		vec.DeletePartialMatch(prometheus.Labels{"sink": sink})
	}
}
