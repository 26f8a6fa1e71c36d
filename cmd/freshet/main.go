// Command freshet keeps Redis-compatible caches in step with Postgres.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// command is one subcommand: its place in the help and what runs it.
type command struct {
	name, args, summary string
	run                 func(ctx context.Context, c *cli, args []string) error
}

func commands() []command {
	return []command{
		{"migrate", "[--print]", "install Freshet into the database, or bring it up to this version", migrate},
		{"uninstall", "[--purge] [--force]", "remove Freshet from the database", uninstall},
		{"worker", "", "keep caches in step until stopped", runWorker},
		{"drain", "[--timeout D]", "work until nothing is pending, then exit", drain},
		{"status", "[--json] [--watch]", "show how far every sink has come", status},
		{"get", "SINK KEY ... [--target NAME]", "show rows beside their entries", get},
		{"backfill", "SINK [--filter CONDITION] [--rate N] [--wait]", "write the entries of all rows again, or of those that a filter selects", backfillCommand},
		{"preview", "[SINK] [--key KEY]... [--rows N] [--json] [--source TABLE [--template KEY] [--columns A,B] [--value SQL] [--transform EXPR] [--filter SQL] [--expires INTERVAL] [--expires-at SQL] [--accept-drift]]",
			"show what rows would become, for a sink or for one that is not there yet", previewCommand},
		{"tail", "SINK [--seconds N]", "show changes as they are captured", tail},
		{"verify", "SINK [--sample N] [--repair] [--target NAME] [--timeout D]", "compare a sink's table and cache both ways", verifyCommand},
		{"demo", "[--rows N] [--seconds N] [--keep]", "show it all on private servers", demoCommand},
		{"version", "", "say which version this is", versionCommand},
	}
}

// cli is what commands write to and read from.
type cli struct {
	stdout, stderr io.Writer
	environ        map[string]string
}

// errUsage ends the program with status 2 after a message about the arguments.
var errUsage = errors.New("usage")

// statusError ends the program with a status of its own.
type statusError struct {
	error
	status int
}

func (e statusError) Unwrap() error { return e.error }

// errUnequal ends the program with status 1 and no further message.
var errUnequal = errors.New("table and cache differ")

func main() {
	// What goes wrong on a connection is returned to whoever used it, and said there.
	redis.SetLogger(silent{})
	// Most of a worker's memory are a few large buffers without pointers: to collect what is
	// between them sooner costs little, and leaves room on a small machine.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	c := &cli{stdout: os.Stdout, stderr: os.Stderr, environ: environment(os.Environ())}
	code := c.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func (c *cli) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		c.help(c.stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "--help":
		c.help(c.stdout)
		return 0
	case "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	for _, cmd := range commands() {
		if cmd.name != args[0] {
			continue
		}
		err := cmd.run(ctx, c, args[1:])
		status := statusError{status: 1}
		switch {
		case err == nil:
			return 0
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprintf(c.stdout, "freshet %s %s\n\n%s.\n", cmd.name, cmd.args, cmd.summary)
			return 0
		case errors.Is(err, errUnequal):
			return 1
		case ctx.Err() != nil && errors.Is(err, context.Canceled):
			fmt.Fprintf(c.stderr, "freshet %s: interrupted\n", cmd.name)
			return 130
		case errors.Is(err, errUsage):
			fmt.Fprintf(c.stderr, "freshet %s: %s\nusage: freshet %s %s\n", cmd.name, oneLine(err), cmd.name, cmd.args)
			return 2
		}
		errors.As(err, &status)
		fmt.Fprintf(c.stderr, "freshet %s: %s\n", cmd.name, oneLine(err))
		return status.status
	}
	fmt.Fprintf(c.stderr, "freshet: there is no command %q; try freshet help\n", args[0])
	return 2
}

func (c *cli) help(w io.Writer) {
	fmt.Fprintln(w, "Freshet keeps Redis-compatible caches in step with Postgres.")
	fmt.Fprintln(w)
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  freshet %-9s %s\n", cmd.name, cmd.summary)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "FRESHET_DATABASE_URL and FRESHET_REDIS_URL say where; README.md has the rest.")
}

// flags makes a flag set whose errors are ours to print.
func flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return set
}

// parse reads flags that may stand before and after the positional arguments, of which
// there must be exactly want, or at least -want when it is negative.
func parse(set *flag.FlagSet, args []string, want int) ([]string, error) {
	positional, err := arguments(set, args)
	switch n := len(positional); {
	case err != nil:
		return nil, err
	case want < 0 && n < -want:
		return nil, fmt.Errorf("%w: want at least %d arguments, got %d", errUsage, -want, n)
	case want >= 0 && n != want:
		return nil, fmt.Errorf("%w: want %d arguments, got %d", errUsage, want, n)
	}
	return positional, nil
}

// arguments reads flags and returns the positional arguments, however many. Behind -- there
// are no flags.
func arguments(set *flag.FlagSet, args []string) ([]string, error) {
	var positional []string
	for {
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		read := len(args) - set.NArg()
		if set.NArg() == 0 || read > 0 && args[read-1] == "--" {
			return append(positional, set.Args()...), nil
		}
		positional = append(positional, set.Arg(0))
		args = args[read+1:]
	}
}

// oneLine is an error without line breaks: errors that were joined, or that a driver
// laid out over several lines.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

func environment(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	return m
}
