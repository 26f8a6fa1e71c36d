// Package jobs is where River's jobs meet the work: it takes the lease that a job
// names, runs what the lease is for, and in one transaction completes the job and
// hands the lease to its successor. A job never returns an error to River: what fails
// is tried again by the lease's next holder, not by River's retries.
package jobs
