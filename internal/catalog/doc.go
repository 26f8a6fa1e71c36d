// Package catalog reads what freshet's tables say about installations, sinks and
// leases. It describes; it never changes anything, and it never reads a source.
package catalog
