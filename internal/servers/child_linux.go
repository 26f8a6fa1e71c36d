package servers

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// signalOnParentDeath has the kernel do it.
func signalOnParentDeath(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// watchParent has nothing to do where the kernel does it.
func watchParent(int, syscall.Signal) (release func()) { return func() {} }

// childrenOf reads /proc, since ps may not be there in a small container.
func childrenOf(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // errs on a bad pattern only
	var pids []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (name) state ppid …, and a name may hold anything, even ")".
		_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
