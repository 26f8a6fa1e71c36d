// Command soak is the instrument for Freshet's first promise, that an entry is never
// left wrong. It starts its own Postgres and Redis and several workers as processes,
// writes to every kind of source in every way there is, and lets faults strike at
// moments drawn from a seed. At quiet points every entry of every sink is compared with
// what the promise says of its table, both ways.
//
// It owns the schedule and the judgement. It judges by its own SQL and by what Redis
// holds, never by Freshet's verify, and it must never mend what it finds: all that it
// does for Freshet is what an operator would do, such as starting a worker again. Only time
// it presses together: change tables rotate within seconds, and each round begins as if
// the last mishap were long ago.
//
// A fault is one function in the table of faults.go.
package main
