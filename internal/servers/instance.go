package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout bounds a start whose context has no earlier deadline.
const startTimeout = time.Minute

// errBusy says that a server could not start for a reason that may pass.
var errBusy = errors.New("port or shared memory still in use")

// instance is what Postgres and Redis have in common: a process with a
// directory and a port, or else something in Docker or in this process.
type instance struct {
	product  string // for errors and the log
	provider string
	host     string
	port     int

	// For a process of ours; unused otherwise.
	dir     *privateDir
	command func(port int) (*exec.Cmd, error)
	ready   func(ctx context.Context, pid int) error // one attempt
	signals stopSignals

	// remove ends what is not a process of ours; nil otherwise.
	remove func() error

	mu      sync.Mutex // held while the process is started or stopped
	child   *child     // the latest process, which may have ended
	stopped bool
	stopErr error
}

// stopSignals are what a server is stopped with, the gentle one first.
type stopSignals struct {
	clean  syscall.Signal // keeps the data in order, for a restart
	atOnce syscall.Signal // for good
}

// Provider says where the server comes from, for a person to read.
func (i *instance) Provider() string { return i.provider }

// Addr is host:port.
func (i *instance) Addr() string { return net.JoinHostPort(i.host, strconv.Itoa(i.port)) }

// PID is the server's process, or 0 if it has none of its own or is down.
func (i *instance) PID() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.child == nil || i.child.exited(0) {
		return 0
	}
	return i.child.pid()
}

// launch starts the process for the first time, on a port that is free.
func (i *instance) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.host = "127.0.0.1"
	var err error
	for range 10 {
		if i.port, err = freePort(); err != nil {
			return err
		}
		// Another process can be faster to the port than our server.
		if err = i.start(ctx); !errors.Is(err, errBusy) {
			return err
		}
	}
	return err
}

// Restart starts the server again, on the same port and directory, after
// stopping it cleanly if it is up. It returns once the server answers.
func (i *instance) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()
	i.mu.Lock()
	defer i.mu.Unlock()
	err := i.ours()
	if err == nil {
		i.end(i.signals.clean)
		for {
			if err = i.start(ctx); !errors.Is(err, errBusy) || pause(ctx, 50*time.Millisecond) != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("restart %s: %w", i.product, err)
	}
	return nil
}

// Halt stops the server cleanly and keeps its data, for a Restart to follow.
func (i *instance) Halt() error {
	return i.with("halt", func() { i.end(i.signals.clean) })
}

// Stop ends the server for good and removes its data. It may be called more
// than once, and by several callers at a time: all get the same answer.
func (i *instance) Stop() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return i.stopErr
	}
	i.stopped = true
	if i.remove != nil {
		i.stopErr = i.remove()
	} else {
		i.end(i.signals.atOnce)
		i.stopErr = i.dir.remove()
	}
	if i.stopErr != nil {
		i.stopErr = fmt.Errorf("stop %s: %w", i.product, i.stopErr)
	}
	return i.stopErr
}

// with does something to the process of ours, if it is one.
func (i *instance) with(what string, do func()) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ours(); err != nil {
		return fmt.Errorf("%s %s: %w", what, i.product, err)
	}
	do()
	return nil
}

func (i *instance) ours() error {
	switch {
	case i.stopped:
		return ErrStopped
	case i.command == nil:
		return ErrNotOurProcess
	}
	return nil
}

// start starts the process on i.port and waits until it answers.
func (i *instance) start(ctx context.Context) error {
	cmd, err := i.command(i.port)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(i.dir.join("server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	c, err := startChild(cmd, i.signals.atOnce)
	if err != nil {
		return err
	}
	i.child = c
	err = await(ctx, c.done, func(ctx context.Context) error { return i.ready(ctx, c.pid()) })
	if err == nil {
		return nil
	}
	c.killTree()
	said, _ := os.ReadFile(i.dir.join("server.log"))
	return startError(err, string(said[min(before.Size(), int64(len(said))):]))
}

// startError adds what the server said of its failure.
func startError(err error, said string) error {
	for _, busy := range []string{"Address already in use", "still in use"} {
		if strings.Contains(said, busy) {
			err = fmt.Errorf("%w: %w", errBusy, err)
			break
		}
	}
	return fmt.Errorf("%w; its log ends: %s", err, tail(said, 1500))
}

// end stops the process, by force if asking does not help, and reaps it.
func (i *instance) end(ask syscall.Signal) {
	if i.child == nil {
		return
	}
	i.child.signal(syscall.SIGCONT) // a paused process hears nothing else
	i.child.signal(ask)
	if !i.child.exited(15 * time.Second) {
		i.child.killTree()
	}
}
