// Package metrics counts what a worker does and shows it to Prometheus: it owns the
// names, the labels and the registry. Rooms that work get a [Metrics] with their
// configuration and resolve their counters once for each session, so that a batch costs
// a few atomic additions. What is a state rather than a count (lag, pending, sizes) is
// looked up when somebody scrapes, at most every few seconds, in one query.
//
// Every label has a bounded set of values: sinks, targets and shards of this database, and
// fixed lists of kinds. It must never fail the work that it counts: all methods may be
// called on nil, and then do nothing.
package metrics
