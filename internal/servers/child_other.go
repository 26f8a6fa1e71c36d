//go:build !linux

package servers

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// signalOnParentDeath: no other kernel we know offers it; see watchParent.
func signalOnParentDeath(*syscall.SysProcAttr, syscall.Signal) {}

// watchParent has a shell wait for our end and pass on the signal. The shell
// reads from a pipe that only we hold open, and we never write to it.
func watchParent(pid int, s syscall.Signal) (release func()) {
	sh := exec.Command("/bin/sh", "-c", `read -r _; kill -"$2" "$1"`,
		"sh", strconv.Itoa(pid), strconv.Itoa(int(s)))
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ours, err := sh.StdinPipe()
	if err != nil {
		return func() {}
	}
	if err := sh.Start(); err != nil {
		// Then a kill -9 of ours leaves the server running: not worth refusing
		// to work at all.
		_ = ours.Close()
		return func() {}
	}
	return func() {
		// The shell has to go before the pipe does: the number it would signal
		// may soon be another process's.
		_ = sh.Process.Kill()
		_ = sh.Wait() // closes the pipe
	}
}

func childrenOf(parent int) []int {
	out, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	var pids []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(fields[0])
			pids = append(pids, pid)
		}
	}
	return pids
}
