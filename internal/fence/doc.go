// Package fence is the one way in which Freshet writes entries: in a transaction that
// Redis refuses unless the lease's control key still holds this writer's fence. The
// cursor lives in the same key and moves in the same transaction, so a lost
// connection never leaves a doubt about what landed.
//
// It must never write without a WATCH that was read back, never retry by itself, and
// never use a connection after an error.
package fence
