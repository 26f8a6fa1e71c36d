package main

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// some are the benchmarks that are tried with every run of the tests. All of them take minutes, however small
// the tables are, for each starts workers again and again.
const some = "backfill,backfill_live_latency,latency_idle,drain_burst,wrong_entries,overhead_bulk,idle_cost"

// Every benchmark measures something, however small the tables are.
func TestBenchmarksMeasure(t *testing.T) {
	for _, program := range []string{"psql", "pgbench", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("baselines need %s: %v", program, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := &stage{rounds: 1, scale: 200, say: t.Logf}
	tried := benchmarks
	if os.Getenv("FRESHET_TEST_EXHAUSTIVE") == "" {
		var err error
		if tried, err = choose(some); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]bool)
	err := s.measure(ctx, tried, func(r result) error {
		// No entry of ours is wrong, and that is no measurement that went wrong.
		if !(r.Value > 0 || strings.HasPrefix(r.Name, "wrong_entries") && r.BaselineValue > 0) || math.IsInf(r.Value, 0) || r.Unit == "" || r.Target == "" || seen[r.Name] {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
		if r.Baseline != "" && r.Value > 0 && !(r.BaselineValue > 0 && r.Ratio > 0) {
			t.Errorf("%s has no baseline: %+v", r.Name, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < len(tried) {
		t.Errorf("there are only the results %v", seen)
	}
}

func TestMediansAndRatios(t *testing.T) {
	ours, theirs := series{10, 40, 20}, series{5, 10, 20}
	if m := ours.median(); m != 20 {
		t.Errorf("the median is %v", m)
	}
	if m := (series{1, 2, 3, 10}).median(); m != 2.5 {
		t.Errorf("the median of four is %v", m)
	}
	if r := ours.against(theirs); r != 2 {
		t.Errorf("the ratio is %v", r)
	}
	if !math.IsNaN(series(nil).median()) {
		t.Error("nothing has a median")
	}
	var list []time.Duration
	for i := range 100 {
		list = append(list, time.Duration(100-i))
	}
	if p50, p99 := quantile(list, 0.5), quantile(list, 0.99); p50 != 51 || p99 != 100 {
		t.Errorf("quantiles are %v and %v", p50, p99)
	}
}

// One round that misses the target is enough, whatever the median says.
func TestTargetsAreMetInEveryRound(t *testing.T) {
	below := func(v float64) bool { return v < 15 }
	if r := (series{1, 2, 20}).judged("a", "ms", "below 15", below); r.OK || r.Met != 2 || !strings.Contains(r.String(), "MISSED, in 2 of 3 rounds") {
		t.Error(r)
	}
	if r := (series{1, 2, 3}).judged("a", "ms", "below 15", below); !r.OK || !strings.Contains(r.String(), "met, in 3 of 3 rounds") {
		t.Error(r)
	}
	target, met := most(0.5)
	if r := (series{1, 1, 1}).beside("a", "ms", "b", series{4, 4, 1}, target, met); r.OK || r.Met != 2 || r.Ratio != 0.25 {
		t.Error(r)
	}
	for _, c := range []struct {
		ours, hand series
		met        int
	}{{series{0, 0}, series{3, 2}, 2}, {series{0, 1}, series{3, 2}, 1}, {series{0, 0}, series{3, 0}, 1}} {
		if r := shown("a", c.ours, c.hand); r.OK != (c.met == 2) || r.Met != c.met || math.IsNaN(r.Ratio) {
			t.Error(r)
		}
	}
}

func TestArgumentsThatMeanNothing(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-rounds", "-1"}, {"-nosuch"}} {
		if code := command(t.Context(), args, t.Output(), t.Output()); code != 2 {
			t.Errorf("%v ended with %d", args, code)
		}
	}
}

// A round that others have disturbed is measured again, but not for ever.
func TestRoundsThatOthersDisturbAreMeasuredAgain(t *testing.T) {
	for _, c := range []struct {
		name            string
		disturbed       int
		measured, noisy int
	}{{"none", 0, 2, 0}, {"some", 3, 5, 0}, {"all", 100, 8, 2}} {
		s := &stage{rounds: 2, say: t.Logf}
		var tries, counted, noisy int
		err := s.quietRounds(func(round int) (measured, error) {
			if round != counted {
				t.Errorf("%s: round %d comes after %d", c.name, round, counted)
			}
			tries++
			m := measured{noise: quiet}
			if tries <= c.disturbed {
				m.noise = 2 * quiet
			}
			m.count = func() {
				counted++
				if m.noise > quiet {
					noisy++
				}
			}
			return m, nil
		})
		if err != nil || tries != c.measured || counted != 2 || noisy != c.noisy {
			t.Errorf("%s: %d rounds were measured, %d count, %d of them disturbed; want %d, 2, %d; %v", c.name, tries, counted, noisy, c.measured, c.noisy, err)
		}
	}
	s := &stage{rounds: 1, say: t.Logf}
	if err := s.quietRounds(func(int) (measured, error) { return measured{}, os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a round that fails: %v", err)
	}
}
