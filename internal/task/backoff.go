package task

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	// MaxBackoff is the longest that a retry waits, jitter aside.
	MaxBackoff = time.Second
)

// Backoff spaces retries: doubling, with jitter, capped.
type Backoff struct {
	next  time.Duration
	tries int
}

// NewBackoff begins with a short wait.
func NewBackoff() *Backoff { return &Backoff{next: minBackoff} }

// Reset begins a new row.
func (b *Backoff) Reset() { b.next, b.tries = minBackoff, 0 }

// First reports whether the next wait is the first in a row.
func (b *Backoff) First() bool { return b.tries == 0 }

// Wait returns false when ctx ended or stop was closed.
func (b *Backoff) Wait(ctx context.Context, stop <-chan struct{}) bool {
	d := b.next/2 + rand.N(b.next)
	b.next = min(2*b.next, MaxBackoff)
	b.tries++
	waited, _ := Pause(ctx, stop, d) // false says all that is asked
	return waited
}
