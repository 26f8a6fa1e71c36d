package main

import (
	"syscall"
	"time"
)

// nap sleeps for less than a millisecond, which the runtime's timers round up to one.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // a signal may end it early
}
