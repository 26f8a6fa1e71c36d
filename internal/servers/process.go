package servers

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a program that is no server and has to end with us all the same, such as
// a client that is killed and paused beside them.
type Process struct{ child *child }

// StartProcess starts a program that is gone soon after this process dies, however it
// dies. Ctrl-C at the terminal does not reach it.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	c, err := startChild(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	return &Process{child: c}, nil
}

// Signal does nothing once the process has ended.
func (p *Process) Signal(s os.Signal) { p.child.signal(s) }

// Kill is kill -9, which also ends a paused process; it returns once it is gone.
func (p *Process) Kill() {
	p.child.signal(syscall.SIGKILL)
	<-p.child.done
}

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.child.done }

// Exited waits up to d for the end of the process, and reports whether it came.
func (p *Process) Exited(d time.Duration) bool { return p.child.exited(d) }

// State says how it ended, once it has.
func (p *Process) State() string { return p.child.cmd.ProcessState.String() }
