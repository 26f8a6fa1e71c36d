// Package catalog reads what freshet's tables say about installations, sinks and
// leases, and takes and stamps leases. It never reads a source, and never changes what a
// sink is.
package catalog
