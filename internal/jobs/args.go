package jobs

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
)

// Args name a lease and the epoch under which it may be taken. A job whose epoch is
// over finds the lease taken and does nothing.
type Args struct {
	Lease int64 `json:"lease"`
	Epoch int64 `json:"epoch"`
}

// SyncArgs is a slice of a lane's work.
type SyncArgs struct{ Args }

// Kind is River's name for the job.
func (SyncArgs) Kind() string { return "sync" }

// BackfillArgs is a slice of a backfill range's work.
type BackfillArgs struct{ Args }

// Kind is River's name for the job.
func (BackfillArgs) Kind() string { return "backfill" }

// MaintainArgs is a sweep or a purge.
type MaintainArgs struct{ Args }

// Kind is River's name for the job.
func (MaintainArgs) Kind() string { return "maintain" }

// Queues are River's queues of a target's jobs that need a function of Go, empty for none: a
// worker takes only those it can do. Of ranges it takes only as many as it has hands for, and
// others have the rest. The same is said in SQL by freshet.queue_for.
func Queues(target, function string) (work, ranges string) {
	name := target
	switch {
	case function != "":
		name = digest(target + " " + function)
	case strings.Contains(target, "__") || strings.HasSuffix(target, "_"):
		name = digest(target) // River wants single underscores between others
	}
	return "target_" + name, "backfill_" + name
}

// QueueOf is River's queue of the lanes that are offered to a worker; in SQL freshet.queue_of.
func QueueOf(worker string) string { return "worker_" + digest(worker) }

func digest(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
