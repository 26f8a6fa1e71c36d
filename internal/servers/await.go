package servers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// pause waits for d, or for the end of ctx, which is then the error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// await tries until it works. It stops early when gone is closed, which is
// what a process does that will never be ready; gone may be nil.
func await(ctx context.Context, gone <-chan struct{}, try func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freePort finds a port on which nothing listens. It may be taken a moment
// later, so callers have to be ready to come again.
//
// Not port 0: that gives one from the range the system also takes for outgoing
// connections, and a server that is down for a restart would lose its port to
// the next client that dials anything.
func freePort() (int, error) {
	const from, to = 15000, 32000
	var err error
	for range 100 {
		port := from + rand.IntN(to-from)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// tail is the end of a log, for an error.
func tail(s string, limit int) string {
	s = strings.TrimSpace(s)
	if len(s) > limit {
		s = "…" + strings.ToValidUTF8(s[len(s)-limit:], "")
	}
	return s
}
