package servers

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// onlyCommand makes PATH one directory, with a script for the package manager
// and for sudo and env, which the call needs.
func onlyCommand(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script(t, filepath.Join(dir, name), text)
	script(t, filepath.Join(dir, "sudo"), `[ "$1" = -n ] && shift; exec "$@"`)
	for _, tool := range []string{"env", "true"} {
		script(t, filepath.Join(dir, tool), `exec /usr/bin/`+tool+` "$@"`)
	}
	t.Setenv("PATH", dir)
	t.Setenv("TMPDIR", dir)
	return dir
}

func TestPackageIsInstalledOnceByMany(t *testing.T) {
	dir := onlyCommand(t, "apt-get", `echo "$DEBIAN_FRONTEND: $*" >>"${0%/*}/calls"`)
	installed := func() bool {
		calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return strings.Contains(string(calls), "install")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := install(t.Context(), slog.New(slog.DiscardHandler), "redis", installed); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	want := "noninteractive: update\nnoninteractive: -o DPkg::Lock::Timeout=120 install -y --no-install-recommends redis-server\n"
	if err != nil || string(calls) != want {
		t.Errorf("got %q, want %q", calls, want)
	}
}

func TestSecondPackageNameIsTried(t *testing.T) {
	dir := onlyCommand(t, "dnf", `echo "$*" >>"${0%/*}/calls"; [ "$3" = valkey ]`)
	if err := install(t.Context(), slog.New(slog.DiscardHandler), "redis", func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
	if want := "install -y redis\ninstall -y valkey\n"; string(calls) != want {
		t.Errorf("got %q, want %q", calls, want)
	}
}

func TestFailedInstallSaysWhatThePackageManagerSaid(t *testing.T) {
	onlyCommand(t, "apk", `echo "no network"; exit 3`)
	err := install(t.Context(), slog.New(slog.DiscardHandler), "postgres", func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "apk add --no-cache postgresql: exit status 3: no network") {
		t.Errorf("got %v", err)
	}
}

func TestNoPackageManager(t *testing.T) {
	onlyCommand(t, "zypper", "")
	err := install(t.Context(), slog.New(slog.DiscardHandler), "redis", func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "no apt-get") {
		t.Errorf("got %v", err)
	}
}

func TestHomebrewIsNotRunAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Setenv("PATH", "") // then there is only the other half to check
		brew := manager{command: "brew"}
		if prefix, err := brew.privilege(t.Context()); err != nil || prefix != nil {
			t.Errorf("got %v, %v", prefix, err)
		}
		return
	}
	onlyCommand(t, "brew", "exit 1")
	err := install(t.Context(), slog.New(slog.DiscardHandler), "redis", func() bool { return false })
	if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "refuses to run as root") {
		t.Errorf("got %v", err)
	}
}
