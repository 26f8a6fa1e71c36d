package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// report is what a soak found. Its fields are the object that -json prints.
type report struct {
	Seed     uint64         `json:"seed"`
	Seconds  float64        `json:"seconds"`
	Postgres string         `json:"postgres"`
	Prepared bool           `json:"prepared_transactions"`
	Checks   int            `json:"checks"`
	Entries  int            `json:"entries"`
	Stale    int            `json:"stale"`
	Missing  int            `json:"missing"`
	Orphaned int            `json:"orphaned"`
	Gaps     int            `json:"gaps"`
	Faults   map[string]int `json:"faults"`
	// Commits are the writers' transactions, pgbench's not counted.
	Commits int `json:"commits"`
	// Refused counts the writers' statements that failed, by SQLSTATE.
	Refused map[string]int `json:"refused"`
	// Longest is how long an entry stayed behind its row; Undisturbed the same while no
	// fault was at work or had just been.
	Longest     float64 `json:"longest_behind_seconds"`
	Undisturbed float64 `json:"longest_behind_undisturbed_seconds"`
	Settled     float64 `json:"longest_settle_seconds"`
	// Ended are workers that ended unasked, Adopted sinks that were blocked by keys which
	// came back with an old dump.
	Ended   int `json:"workers_ended"`
	Adopted int `json:"adopted"`
	// Emptied is how often the floor of a change table was seen to have risen, Lapsed how
	// many sinks were let go.
	Emptied  int      `json:"floors_raised"`
	Lapsed   int      `json:"lapsed"`
	Failures []string `json:"failures"`

	mu    sync.Mutex
	began time.Time
	lines io.Writer
}

func newReport(c config) *report {
	return &report{Seed: c.seed, Faults: make(map[string]int), Refused: make(map[string]int), Failures: []string{}, began: time.Now(), lines: c.lines}
}

// say prints a line with the time since the beginning.
func (r *report) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.lines, "%7.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// fail notes what must never happen.
func (r *report) fail(what string) {
	r.say("WRONG  %s", what)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failures = append(r.Failures, what)
}

// note changes figures.
func (r *report) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// Passed reports whether nothing was ever wrong.
func (r *report) Passed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.Failures) == 0
}

// print ends the lines with the figures.
func (r *report) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := func(of map[string]int) string {
		var list []string
		for _, k := range slices.Sorted(maps.Keys(of)) {
			list = append(list, fmt.Sprintf("%s %d", k, of[k]))
		}
		if len(list) == 0 {
			return "none"
		}
		return strings.Join(list, ", ")
	}
	fmt.Fprintf(w, "\nseed %d, %.0f s, %s, prepared transactions %v\n", r.Seed, r.Seconds, r.Postgres, r.Prepared)
	fmt.Fprintf(w, "faults: %s\n", counts(r.Faults))
	fmt.Fprintf(w, "writers: %d commits; refused: %s\n", r.Commits, counts(r.Refused))
	fmt.Fprintf(w, "workers that ended unasked: %d; sinks told to adopt: %d; gaps: %d\n", r.Ended, r.Adopted, r.Gaps)
	fmt.Fprintf(w, "change tables seen to be emptied: %d times; sinks that lapsed: %d\n", r.Emptied, r.Lapsed)
	fmt.Fprintf(w, "longest behind: %.2f s, %.3f s where no fault was near; longest settle %.1f s\n", r.Longest, r.Undisturbed, r.Settled)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "WRONG  %s\n", f)
	}
	verdict := "passed"
	if len(r.Failures) > 0 {
		verdict = fmt.Sprintf("FAILED (again with -seed %d)", r.Seed)
	}
	fmt.Fprintf(w, "%s: %d checks of %d entries, %d stale, %d missing, %d orphaned\n", verdict, r.Checks, r.Entries, r.Stale, r.Missing, r.Orphaned)
}
