package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Prefixes of private directories, by which a later run finds those that a
// process killed with -9 left behind.
const (
	postgresDir = "freshet-pg-"
	redisDir    = "freshet-redis-"
)

// ownerFile is in every private directory. Its owner holds a lock on it, which
// the kernel lets go when the owner dies: a process number could be another
// process by now, or one of another container that shares the directory.
const ownerFile = "owner.pid"

// privateDir is a server's directory, of which nothing outlives the server.
type privateDir struct {
	path  string
	owner *os.File
}

func newPrivateDir(prefix string, inMemory bool) (*privateDir, error) {
	base := temporary()
	if inMemory {
		base = memory(base)
	}
	sweep(base)
	path, err := os.MkdirTemp(base, prefix)
	if err != nil {
		return nil, fmt.Errorf("make private directory: %w", err)
	}
	d := &privateDir{path: path}
	// Postgres reports its directory without links; so do we, to compare.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		d.path = real
	}
	if err := d.own(); err != nil {
		return nil, errors.Join(fmt.Errorf("own private directory: %w", err), d.remove())
	}
	return d, nil
}

// temporary is where private directories go: os.TempDir, or for root /tmp where
// that one lies below a directory which no other user can pass, such as /root.
func temporary() string {
	base, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil || os.Geteuid() != 0 {
		return os.TempDir()
	}
	for dir := base; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return "/tmp"
		}
		if dir == filepath.Dir(dir) {
			return base
		}
	}
}

// own locks the directory, and lets other users pass but not look.
func (d *privateDir) own() (err error) {
	if d.owner, err = os.OpenFile(filepath.Join(d.path, ownerFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(d.owner.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	// Written after it is locked: an empty one belongs to somebody who is
	// just about to lock it.
	if _, err := fmt.Fprintln(d.owner, os.Getpid()); err != nil {
		return err
	}
	return os.Chmod(d.path, 0o711)
}

func (d *privateDir) join(name string) string { return filepath.Join(d.path, name) }

// remove deletes the directory. It tries for a while, because a process that
// was killed a moment ago may still be writing a last file.
func (d *privateDir) remove() error {
	var err error
	for range 100 {
		if err = os.RemoveAll(d.path); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if d.owner != nil {
		_ = d.owner.Close()
	}
	if err != nil {
		return fmt.Errorf("remove private directory: %w", err)
	}
	return nil
}

// sweep removes the private directories of ours whose owner is dead. It is
// housekeeping: what it cannot remove stays for another time.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() && (strings.HasPrefix(name, postgresDir) || strings.HasPrefix(name, redisDir)) {
			sweepOne(filepath.Join(base, name))
		}
	}
}

func sweepOne(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	// Even root leaves another user's alone: the name is anybody's to take.
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return
	}
	owner, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		// Killed before it wrote the file, or about to write it.
		if errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > time.Hour {
			_ = os.RemoveAll(path)
		}
		return
	}
	defer owner.Close()
	file, err := owner.Stat()
	if err != nil || file.Size() == 0 && time.Since(file.ModTime()) < time.Hour {
		return
	}
	if held, err := tryLock(owner); err == nil && held {
		_ = os.RemoveAll(path)
	}
}

// tryLock takes the lock on f if nobody has it. Closing f lets go of it.
func tryLock(f *os.File) (held bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
