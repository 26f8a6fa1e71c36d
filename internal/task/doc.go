// Package task is what all leased work has in common: the connections it uses, how it
// spaces retries, how it says that there is nothing left to work for, and how it asks for a
// re-warm. It reads no source and writes to no target.
package task
