package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// benchmark is one measurement or several that share their preparation.
type benchmark struct {
	name string
	what string
	run  func(ctx context.Context, s *stage) ([]result, error)
}

var benchmarks = []benchmark{
	{"backfill", "warming a table, beside psql piped into redis-cli and beside a bare loop", backfill},
	{"backfill_shapes", "warming with a value made by SQL and with a transform, beside plain columns", backfillShapes},
	{"backfill_memory", "resident memory of the worker, however many and wide the rows are", backfillMemory},
	{"backfill_live_latency", "age of live changes while the same table is warmed", backfillLiveLatency},
	{"latency_idle", "how long a commit takes to be visible, beside a worker that polls and a writer that sets the entry itself", latencyIdle},
	{"latency_loaded", "the same under 3,000 and 5,000 changes a second", latencyLoaded},
	{"latency_handover", "the same with two workers, of which the one that holds the lane is replaced again and again", latencyHandOver},
	{"drain_burst", "one UPDATE of 200,000 rows, from its commit to the last entry", drainBurst},
	{"drain_backlog", "200,000 one-row transactions that wait for a worker, beside the same", drainBacklog},
	{"drain_memory", "resident memory of a worker whose sinks are all far behind", drainMemory},
	{"wrong_entries", "entries left wrong by deletes and late commits, beside a worker that polls", byHandWrong},
	{"hot_row", "one row that eight clients update: the age of its entry, and how often it is written", hotRow},
	{"overhead_single", "transactions a second of pgbench with capture and without", overheadSingle},
	{"overhead_parts", "where the time goes that capture adds to an update of one row", overheadParts},
	{"overhead_bulk", "statements that write 100,000 rows with capture and without", overheadBulk},
	{"claim_scaling", "what a batch costs to claim, however long the backlog", claimScaling},
	{"idle_cost", "what a worker with 20 sinks costs while nobody writes", idleCost},
	{"fanout", "a burst with several shards, workers and sinks", fanout},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main without the process: 0 when every target is met in every round, 1 otherwise, 2 for
// arguments that mean nothing.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	only := set.String("only", "", "only these benchmarks, separated by commas: "+allNames())
	quick := set.Bool("quick", false, "a tenth of the rows and one round: shows that it works, measures little")
	rounds := set.Int("rounds", 0, "how often to measure each (default 5, with -quick 1)")
	asJSON := set.Bool("json", false, "print one JSON object a line; what is going on goes to standard error")
	if err := set.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(*only)
	if err == nil && *rounds < 0 {
		err = fmt.Errorf("-rounds is %d: it cannot be negative", *rounds)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	s := &stage{rounds: *rounds, scale: 1, say: func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }}
	if s.rounds == 0 {
		s.rounds = 5
		if *quick {
			s.rounds = 1
		}
	}
	if *quick {
		s.scale = 10
	}
	if *asJSON {
		s.describe = func(machine string) error {
			return json.NewEncoder(stdout).Encode(struct {
				Machine string `json:"machine"`
				Scale   int    `json:"scale"`
			}{machine, s.scale})
		}
	}
	missed := false
	err = s.measure(ctx, chosen, func(r result) error {
		missed = missed || !r.OK
		if *asJSON {
			return json.NewEncoder(stdout).Encode(r)
		}
		_, err := fmt.Fprintln(stdout, r)
		return err
	})
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if missed {
		return 1
	}
	return 0
}

// measure runs benchmarks one after another.
func (s *stage) measure(ctx context.Context, chosen []benchmark, tell func(result) error) error {
	return s.with(ctx, func() error {
		machine, err := s.machine(ctx)
		if err != nil {
			return err
		}
		s.say("%s", machine)
		if s.describe != nil {
			if err := s.describe(machine); err != nil {
				return err
			}
		}
		for _, b := range chosen {
			s.say("%s: %s", b.name, b.what)
			// What the one before has written of the WAL can be used again.
			err := s.exec(ctx, "checkpoint")
			var results []result
			if err == nil {
				results, err = b.run(ctx, s)
			}
			if err == nil {
				err = s.clear(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			for _, r := range results {
				if err := tell(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func allNames() string {
	var names []string
	for _, b := range benchmarks {
		names = append(names, b.name)
	}
	return strings.Join(names, ", ")
}

func choose(only string) ([]benchmark, error) {
	if only == "" {
		return benchmarks, nil
	}
	var chosen []benchmark
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(benchmarks, func(b benchmark) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no benchmark %q, only %s", name, allNames())
		}
		chosen = append(chosen, benchmarks[i])
	}
	return chosen, nil
}
