package servers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const superuser = "postgres"

// postgresDefaults suit a server whose data nobody will miss.
var postgresDefaults = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "on",
	"max_connections":    "200",
	"shared_buffers":     "128MB",
	"listen_addresses":   "127.0.0.1",
	// No socket: its path may not have more than some hundred bytes, and the
	// temporary directory alone can have that.
	"unix_socket_directories": "",
}

// run starts the server from binaries, in a directory made for it.
func (p *Postgres) run(ctx context.Context, prog program, o Options) error {
	who, err := unprivileged()
	if err != nil {
		return err
	}
	if p.dir, err = newPrivateDir(postgresDir, o.InMemory); err != nil {
		return err
	}
	data := p.dir.join("data")
	p.signals = postgresSignals
	p.command = func(port int) (*exec.Cmd, error) {
		return who.command(data, prog.command, "-D", data, "-p", strconv.Itoa(port)), nil
	}
	p.ready = func(ctx context.Context, _ int) error { return p.answers(ctx, data) }

	err = initialise(ctx, prog, who, data)
	if err == nil {
		err = configure(data, o.Postgres)
	}
	if err == nil {
		err = p.launch(ctx)
	}
	if err != nil {
		return errors.Join(err, p.Stop())
	}
	return nil
}

// initialise makes the data directory.
func initialise(ctx context.Context, prog program, who *account, data string) error {
	var err error
	// C.UTF-8 sorts by code point and knows letters beyond ASCII, but not
	// every system has it.
	for _, locale := range []string{"C.UTF-8", "C"} {
		if err = os.RemoveAll(data); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		if err = errors.Join(os.Mkdir(data, 0o700), who.owns(data)); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		cmd := who.command(data, filepath.Join(prog.dir, "initdb"), "-D", data, "-U", superuser,
			"--auth=trust", "--no-sync", "-E", "UTF8", "--locale="+locale)
		if err = runCommand(ctx, cmd); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	return nil
}

// runCommand runs a command to its end, or to the end of ctx or of ours.
func runCommand(ctx context.Context, cmd *exec.Cmd) error {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	c, err := startChild(cmd, syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.killTree()
		return ctx.Err()
	}
	if c.err != nil {
		return fmt.Errorf("%w: %s", c.err, tail(out.String(), 1500))
	}
	return nil
}

// configure writes the settings to the file and not to the command line, which
// would take ALTER SYSTEM out of a test's hands.
func configure(data string, settings map[string]string) error {
	all := maps.Clone(postgresDefaults)
	maps.Copy(all, settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

// answers reports whether the server takes queries, and is the one that lives
// in data: on a port lost to another process, another Postgres would answer.
func (p *Postgres) answers(ctx context.Context, data string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there string
	if err := conn.QueryRow(ctx, "show data_directory").Scan(&there); err != nil {
		return err
	}
	if data != "" && there != data {
		return fmt.Errorf("another server, in %s, answers on port %d", there, p.port)
	}
	return nil
}
