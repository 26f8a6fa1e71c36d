package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// smokeConfig is a soak of seconds.
func smokeConfig(lines *bytes.Buffer) config {
	return config{
		length: 6 * time.Second, seed: 1, workers: 2, calm: time.Second, storm: 5 * time.Second, pause: time.Second,
		kinds: []string{"worker-kill", "redis-flush", "redis-cut", "sink-shards", "postgres-terminate", "capture-dropped", "schema-leaf"}, lines: lines,
	}
}

func TestSoakSmoke(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	found, err := soak(t.Context(), smokeConfig(&lines))
	if err != nil {
		t.Fatalf("%v\n%s", err, lines.String())
	}
	if !found.Passed() || found.Checks < 2 || found.Entries == 0 || found.Commits == 0 || len(found.Faults) == 0 {
		found.print(&lines)
		t.Fatalf("the soak was not clean, or did nothing:\n%s", lines.String())
	}
}

// The same seed has the same faults at the same moments, and another seed has others.
func TestSeedDecidesTheSchedule(t *testing.T) {
	t.Parallel()
	schedule := func(seed uint64) string {
		r := &run{config: config{seed: seed}}
		var text string
		draw := r.stream(forFaults, 0)
		for range 50 {
			f, _ := r.draw(draw)
			text += fmt.Sprintln(f.kind, draw.Float64(), r.statement(r.stream(forWriters, 7)))
		}
		return text
	}
	if schedule(5) != schedule(5) {
		t.Error("one seed has two schedules")
	}
	if schedule(5) == schedule(6) {
		t.Error("two seeds have one schedule")
	}
}

// A soak that cannot see what is wrong is worse than none.
func TestWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	var f finding
	f.judge("default",
		map[string]string{"a": `{"n": 1.0}`, "b": `{"n": 1.0}`, "c": `{}`, "d": `{"x": 1, "y": 2}`},
		map[string]string{"a": `{"n": 1.0}`, "b": `{"n": 1.00}`, "d": `{"y":2,"x":1}`, "e": `{}`})
	if f.entries != 4 || f.stale != 1 || f.missing != 1 || f.orphaned != 1 || f.right() {
		t.Errorf("found %v; want 1 stale, 1 missing, 1 orphaned of 4", f)
	}
}

func TestReportAsJSONHasEveryFigure(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(newReport(config{seed: 3}))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seed", "checks", "stale", "missing", "orphaned", "longest_behind_seconds", "faults", "failures"} {
		if _, there := fields[name]; !there {
			t.Errorf("no %q in %v", name, slices.Sorted(maps.Keys(fields)))
		}
	}
}
