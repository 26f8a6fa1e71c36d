package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// result is one line of the output.
type result struct {
	Name string `json:"name"`
	// Value and BaselineValue are medians, in Unit.
	Value         float64 `json:"value"`
	Unit          string  `json:"unit"`
	Baseline      string  `json:"baseline,omitempty"`
	BaselineValue float64 `json:"baseline_value,omitempty"`
	// Ratio is the median of value / baseline of each round.
	Ratio  float64 `json:"ratio,omitempty"`
	Target string  `json:"target"`
	OK     bool    `json:"ok"`
}

func (r result) String() string {
	line := fmt.Sprintf("%-34s %12s %-8s", r.Name, number(r.Value), r.Unit)
	if r.Baseline != "" {
		line += fmt.Sprintf(" %s %s: ratio %.2f", r.Baseline, number(r.BaselineValue), r.Ratio)
	}
	verdict := "met"
	if !r.OK {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s (%s: %s)", line, r.Target, verdict)
}

func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// series are the measurements of one contender, a value a round.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// against is the median ratio of what was measured in the same round.
func (s series) against(baseline series) float64 {
	var ratios series
	for i := range s {
		ratios = append(ratios, s[i]/baseline[i])
	}
	return ratios.median()
}

// beside compares with a baseline; the ratio has to be at least (or at most) the target.
func (s series) beside(name, unit, baseline string, other series, target string, met func(ratio float64) bool) result {
	ratio := s.against(other)
	return result{
		Name: name, Value: s.median(), Unit: unit, Baseline: baseline, BaselineValue: other.median(), Ratio: ratio,
		Target: "ratio " + target, OK: met(ratio),
	}
}

// quantile of unsorted values; q between 0 and 1.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
