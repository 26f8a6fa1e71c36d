package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main without the process: 0 when nothing was ever wrong, 1 otherwise, 2 for
// arguments that mean nothing.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("soak", flag.ContinueOnError)
	set.SetOutput(stderr)
	minutes := set.Float64("minutes", 10, "how long to write and to strike")
	seed := set.String("seed", "", "a number that decides which faults strike when and what is written (default random)")
	asJSON := set.Bool("json", false, "print one JSON object; the lines go to standard error")
	keep := set.Bool("keep", false, "after a failure keep servers, workers and logs until Ctrl-C")
	kinds := set.String("faults", "", "only these kinds of fault, separated by commas; - for none")
	workers := set.Int("workers", 3, "how many worker processes")
	if err := set.Parse(args); err != nil {
		return 2
	}
	c := config{
		length: time.Duration(*minutes * float64(time.Minute)), seed: rand.Uint64N(1_000_000_000), workers: *workers,
		calm: 10 * time.Second, storm: 25 * time.Second, pause: 2 * time.Second, pgbench: true, keep: *keep, lines: stdout,
	}
	if *asJSON {
		c.lines = stderr
	}
	if *seed != "" {
		n, err := strconv.ParseUint(*seed, 10, 64)
		if err != nil {
			fmt.Fprintf(stderr, "soak: -seed: %v\n", err)
			return 2
		}
		c.seed = n
	}
	if *kinds != "" {
		c.kinds = strings.Split(*kinds, ",")
	}
	if err := c.check(); err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return 2
	}

	report, err := soak(ctx, c)
	if err != nil && !(ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		report.fail(fmt.Sprintf("the soak itself failed: %v", err))
	}
	if *asJSON {
		if err := json.NewEncoder(stdout).Encode(report); err != nil {
			fmt.Fprintln(stderr, "soak:", err)
			return 1
		}
	} else {
		report.print(stdout)
	}
	if !report.Passed() {
		return 1
	}
	return 0
}
