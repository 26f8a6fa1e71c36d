// Package doorbell lets a caught-up lane sleep and wakes it when its source changes:
// in a millisecond by the bell that triggers ring for sleepers, and within a second by
// a look at the change tables in any case.
//
// Whoever sleeps holds an advisory lock on the source. A writer that cannot share the
// lock rings at commit; a writer that holds it keeps the sleeper from falling asleep
// before the writer's end. So a busy database pays for no notifications, and nothing
// can fall between the last look and the sleep. After a ring the lock is kept for some
// milliseconds for a lane that falls asleep again: until a second ring, which is one in vain.
package doorbell
