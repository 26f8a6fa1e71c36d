package servers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// manager is a system's package manager.
type manager struct {
	command  string
	refresh  []string            // its arguments before an install, if any
	install  []string            // its arguments before the package
	env      []string            // set for it
	asRoot   bool                // Homebrew is the one that refuses root
	packages map[string][]string // per product, tried in order
}

var managers = []manager{
	{
		command: "apt-get",
		refresh: []string{"update"},
		// Another apt may be at work, such as a machine's unattended upgrade.
		install: []string{"-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"},
		env:     []string{"DEBIAN_FRONTEND=noninteractive"}, asRoot: true,
		packages: map[string][]string{"redis": {"redis-server", "valkey-server"}, "postgres": {"postgresql"}},
	},
	{
		command: "dnf", install: []string{"install", "-y"}, asRoot: true,
		packages: map[string][]string{"redis": {"redis", "valkey"}, "postgres": {"postgresql-server"}},
	},
	{
		command: "apk", install: []string{"add", "--no-cache"}, asRoot: true,
		packages: map[string][]string{"redis": {"redis", "valkey"}, "postgres": {"postgresql"}},
	},
	{
		command: "brew", install: []string{"install"}, env: []string{"HOMEBREW_NO_AUTO_UPDATE=1"},
		packages: map[string][]string{"redis": {"redis"}, "postgres": {"postgresql@17"}},
	},
}

// install gets a product by the system's package manager, where it may. Test
// binaries run side by side: the first installs, the others wait for it and
// then find the product there.
func install(ctx context.Context, log *slog.Logger, product string, installed func() bool) error {
	for _, m := range managers {
		if _, err := exec.LookPath(m.command); err != nil {
			continue
		}
		prefix, err := m.privilege(ctx)
		if err != nil {
			return err
		}
		unlock, err := lockInstall(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		if installed() {
			return nil
		}
		return m.run(ctx, log, prefix, product)
	}
	return errors.New("no apt-get, dnf, apk or brew on PATH")
}

func (m manager) run(ctx context.Context, log *slog.Logger, prefix []string, product string) error {
	if m.refresh != nil {
		// Not fatal: one dead third-party list fails it, and the package may
		// well come from another.
		if err := m.call(ctx, prefix, m.refresh...); err != nil {
			log.Warn("package lists not refreshed", "err", err)
		}
	}
	var errs []error
	for _, name := range m.packages[product] {
		log.Info("installing package", "package", name, "with", m.command)
		err := m.call(ctx, prefix, append(m.install[:len(m.install):len(m.install)], name)...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// privilege is what to put before the command to be allowed to install.
func (m manager) privilege(ctx context.Context) ([]string, error) {
	root := os.Geteuid() == 0
	switch {
	case m.asRoot == root:
		return nil, nil
	case root:
		return nil, fmt.Errorf("%s refuses to run as root", m.command)
	}
	// -n: a password prompt in the middle of a test run is a hang.
	if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
		return nil, fmt.Errorf("%s needs root, or sudo without a password", m.command)
	}
	return []string{"sudo", "-n"}, nil
}

func (m manager) call(ctx context.Context, prefix []string, args ...string) error {
	// env, and not cmd.Env, because sudo drops the environment.
	line := append(append(append(append([]string{}, prefix...), "env"), m.env...), m.command)
	line = append(line, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	// Killing a package manager leaves a broken database behind; ask first.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, tail(string(out), 300))
	}
	return nil
}

// lockInstall lets one process on this machine install at a time.
func lockInstall(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(os.TempDir(), "freshet-install.lock")
	// Without O_CREATE first: in a sticky directory the kernel may refuse it
	// for a file of another user, even to root.
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("open install lock: %w", err)
	}
	for {
		held, err := tryLock(f)
		if held {
			return func() { f.Close() }, nil // closing lets go of the lock
		}
		if err == nil {
			err = pause(ctx, 100*time.Millisecond)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("wait for install lock %s: %w", path, err)
		}
	}
}
