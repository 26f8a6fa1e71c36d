package servers

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// account is the user a server runs as; nil means the user we are.
type account struct {
	name     string
	uid, gid int
}

// unprivileged is whom to run Postgres as: it refuses to run as root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil {
			return &account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return nil, errors.New("postgres refuses to run as root, and there is no user postgres or nobody")
}

// owns makes a path the account's own.
func (a *account) owns(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// command is a command run as the account, in dir, with nothing in its
// environment that would change what a server does.
func (a *account) command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir // ours may be one that the account cannot enter
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "LC_"), name == "LANG", name == "LANGUAGE":
			// PGDATA, PGPORT and the like speak of some other server, and
			// messages have to stay in English for us to read them.
		case name == "HOME", name == "USER", name == "LOGNAME", name == "PWD", name == "NOTIFY_SOCKET":
		default:
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+dir, "LC_ALL=C")
	return cmd
}
