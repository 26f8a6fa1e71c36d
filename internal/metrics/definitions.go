package metrics

import "github.com/prometheus/client_golang/prometheus"

// Definition is one metric as its users see it.
type Definition struct {
	Name   string
	Type   string
	Labels []string
	Help   string
}

const (
	counter = "counter"
	gauge   = "gauge"
)

var (
	ofLane   = []string{"sink", "target", "shard"}
	ofTarget = []string{"sink", "target"}
)

// Definitions lists every metric of Freshet's own.
func Definitions() []Definition {
	return []Definition{
		{lagSeconds, gauge, ofLane, "How long ago the moment is up to which a lane of this worker has applied everything, and everything was captured."},
		{pendingChanges, gauge, ofLane, "Captured changes that a lane of this worker has not passed, counted up to 10,000."},
		{sinkState, gauge, []string{"sink", "target", "state"}, "Whether a lane of a sink is in a state of the view status, 1 or 0. Every worker of a database says the same."},
		{failingEntries, gauge, ofTarget, "Entries that are absent because making them fails. Every worker of a database says the same."},
		{captureGaps, gauge, []string{"source"}, "Changes that were not captured and not made good for yet. Every worker of a database says the same."},
		{leasesHeld, gauge, []string{"kind"}, "Leases that this worker holds: lanes (sync), backfill ranges, sweeps and purges."},
		{entriesWritten, counter, ofLane, "Entries that lanes have set."},
		{entriesDeleted, counter, ofLane, "Entries that lanes have deleted, whether or not they were there."},
		{entriesFailed, counter, ofLane, "Entries that failed and were removed instead, each time; without a shard where a backfill found them."},
		{batches, counter, ofLane, "Batches that lanes have written."},
		{fencedWrites, counter, ofTarget, "Writes that Redis refused because another writer has the fence."},
		{backfillRows, counter, ofTarget, "Rows that backfills have read and written."},
		{rewarms, counter, []string{"sink", "cause"}, "Re-warms that this worker asked for, by cause."},
		{takeovers, counter, nil, "Leases that this worker took from workers that had gone silent."},
		{redisErrors, counter, []string{"target", "kind"}, "Failed operations on a target, by kind."},
		{postgresErrors, counter, []string{"kind"}, "Failed operations on Postgres, by kind: the SQLSTATE class, or what happened to the connection."},
		{heartbeatFailures, counter, nil, "Heartbeats that failed."},
		{heartbeatAge, gauge, nil, "How long ago the last heartbeat succeeded."},
		{upkeepFailures, counter, nil, "Attempts to look after capture that failed: to look at it, to mend it, to rotate a change table."},
		{changeTableBytes, gauge, []string{"source"}, "Size of a source's change tables with their indexes. Every worker of a database says the same."},
		{buildInfo, gauge, []string{"version", "revision", "go_version"}, "Always 1; the labels say what runs."},
	}
}

const (
	lagSeconds        = "freshet_lag_seconds"
	pendingChanges    = "freshet_pending_changes"
	sinkState         = "freshet_sink_state"
	failingEntries    = "freshet_failing_entries"
	captureGaps       = "freshet_capture_gaps"
	leasesHeld        = "freshet_leases_held"
	entriesWritten    = "freshet_entries_written_total"
	entriesDeleted    = "freshet_entries_deleted_total"
	entriesFailed     = "freshet_entries_failed_total"
	batches           = "freshet_batches_total"
	fencedWrites      = "freshet_fenced_writes_total"
	backfillRows      = "freshet_backfill_rows_total"
	rewarms           = "freshet_rewarms_total"
	takeovers         = "freshet_takeovers_total"
	redisErrors       = "freshet_redis_errors_total"
	postgresErrors    = "freshet_postgres_errors_total"
	heartbeatFailures = "freshet_heartbeat_failures_total"
	heartbeatAge      = "freshet_heartbeat_age_seconds"
	upkeepFailures    = "freshet_upkeep_failures_total"
	changeTableBytes  = "freshet_change_table_bytes"
	buildInfo         = "freshet_build_info"
)

// find returns the definition of a name above.
func find(name string) Definition {
	for _, d := range Definitions() {
		if d.Name == name {
			return d
		}
	}
	panic("no definition of " + name)
}

func newCounters(name string) *prometheus.CounterVec {
	d := find(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
}

func newCounter(name string) prometheus.Counter {
	d := find(name)
	return prometheus.NewCounter(prometheus.CounterOpts{Name: d.Name, Help: d.Help})
}

func newDesc(name string) *prometheus.Desc {
	d := find(name)
	return prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
}
