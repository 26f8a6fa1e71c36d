package servers

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is one process of ours. It is reaped by the goroutine that started it,
// which ends when the process does.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it is reaped
	err  error         // how it ended, once done is closed
}

// startChild starts a process which gets the signal onDeath when we die,
// however we die.
func startChild(cmd *exec.Cmd, onDeath syscall.Signal) (*child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// In a group of its own, Ctrl-C at the terminal reaches us and not it: we
	// stop servers in order, and only after their clients.
	cmd.SysProcAttr.Setpgid = true
	signalOnParentDeath(cmd.SysProcAttr, onDeath)

	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux takes "the parent" to be the thread that forked. The Go runtime
		// ends idle threads, and with one of them a healthy server. So this
		// goroutine keeps its thread for as long as the process lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		release := watchParent(cmd.Process.Pid, onDeath)
		started <- nil
		c.err = cmd.Wait()
		release()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// exited reports whether the process is gone, waiting for it up to d.
func (c *child) exited(d time.Duration) bool {
	select {
	case <-c.done:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}

// signal does nothing once the process is reaped, so that it cannot reach
// another process that was given the same number.
func (c *child) signal(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// killTree ends the process and its children as a power cut would: nobody
// gets to say goodbye. A Postgres backend left alive would otherwise hold the
// shared memory, and a new postmaster would refuse to start.
func (c *child) killTree() {
	if !c.exited(0) {
		// Stopped first, it forks no child that the list would miss.
		c.signal(syscall.SIGSTOP)
		children := childrenOf(c.pid())
		c.signal(syscall.SIGKILL)
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-c.done
}
