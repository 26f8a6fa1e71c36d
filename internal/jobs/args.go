package jobs

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

// Queue is the queue of a target's jobs: a worker takes only those it can do.
func Queue(target string) string { return "target_" + target }

// BackfillQueue is the queue of a target's ranges: a worker takes only as many as it has
// hands for, and others have the rest.
func BackfillQueue(target string) string { return "backfill_" + target }
