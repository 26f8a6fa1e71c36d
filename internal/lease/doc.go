// Package lease keeps the leases of one worker: it says once a second that they are
// held and how far each has come, ends the work of those that were lost, and takes
// over those whose holder went silent. It knows nothing of what a lease is for.
package lease
