package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/freshet/freshet/internal/servers"
)

// worker is one worker process after another, under a supervisor that starts the next
// one as any platform does.
type worker struct {
	run    *run
	number int

	mu      sync.Mutex
	process *servers.Process
	// asked: its end is wanted, so that nobody else starts the next one.
	asked bool
	ended chan struct{} // the supervisor's
	over  bool
}

func (w *worker) log() string {
	return filepath.Join(w.run.dir, fmt.Sprintf("worker-%d.log", w.number))
}

// begin starts the first process and its supervisor.
func (w *worker) begin() error {
	w.ended = make(chan struct{})
	if err := w.start(); err != nil {
		return err
	}
	go func() {
		defer close(w.ended)
		w.supervise()
	}()
	return nil
}

// start is called with nobody else at work on w.
func (w *worker) start() error {
	log, err := os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of a worker: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(w.run.binary, "worker")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"FRESHET_DATABASE_URL=" + w.run.workerURL + "&application_name=soak_worker",
		"FRESHET_REDIS_URL=" + w.run.redis.DatabaseURL(targets["default"]),
		"FRESHET_REDIS_URL_EU=" + w.run.redis.DatabaseURL(targets["eu"]),
		"FRESHET_LOG_LEVEL=debug",
	}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := servers.StartProcess(cmd)
	if err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	w.mu.Lock()
	w.process, w.asked = p, false
	w.mu.Unlock()
	return nil
}

// supervise starts a process again that ended by itself. One that is started while its
// servers are away does: it says so and leaves the waiting to its platform.
func (w *worker) supervise() {
	for {
		w.mu.Lock()
		p, asked, over := w.process, w.asked, w.over
		w.mu.Unlock()
		switch {
		case over:
			return
		case asked || !p.Exited(50*time.Millisecond):
			time.Sleep(20 * time.Millisecond)
			continue
		}
		w.mu.Lock()
		again := w.process == p && !w.asked && !w.over
		w.mu.Unlock()
		if !again {
			continue
		}
		w.run.note(func() { w.run.Ended++ })
		w.run.say("worker %d ended by itself: %s", w.number, p.State())
		time.Sleep(300 * time.Millisecond)
		w.mu.Lock()
		over = w.over
		w.mu.Unlock()
		if over {
			return
		}
		if err := w.start(); err != nil {
			w.run.fail(err.Error())
			return
		}
	}
}

// ask sends a signal that is to end the process, and waits for the end.
func (w *worker) ask(s syscall.Signal, patience time.Duration) bool {
	w.mu.Lock()
	w.asked = true
	p := w.process
	w.mu.Unlock()
	p.Signal(s)
	return p.Exited(patience)
}

// signal does not end the process.
func (w *worker) signal(s syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process.Signal(s)
}

// end ends process and supervisor for good.
func (w *worker) end() {
	w.mu.Lock()
	w.over, w.asked = true, true
	w.mu.Unlock()
	if w.ended != nil {
		<-w.ended
	}
	w.mu.Lock()
	p := w.process
	w.mu.Unlock()
	if p == nil {
		return
	}
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	if !p.Exited(10 * time.Second) {
		p.Kill()
	}
}
