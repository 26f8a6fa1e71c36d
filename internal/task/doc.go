// Package task is what all leased work has in common: the connections it uses, how it
// spaces retries, and how it says that there is nothing left to work for. It does no
// work itself.
package task
