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
	// Met is in how many of the rounds the target was met. OK says whether it was in all: a median would hide the others.
	OK     bool `json:"ok"`
	Met    int  `json:"met"`
	Rounds int  `json:"rounds"`
}

// noTarget is of what is measured to be known.
const noTarget = "none"

func (r result) String() string {
	line := fmt.Sprintf("%-34s %12s %-8s", r.Name, number(r.Value), r.Unit)
	if r.Baseline != "" {
		line += fmt.Sprintf(" %s %s: ratio %.2f", r.Baseline, number(r.BaselineValue), r.Ratio)
	}
	if r.Target == noTarget {
		return line
	}
	verdict := "met"
	if !r.OK {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s (%s: %s, in %d of %d rounds)", line, r.Target, verdict, r.Met, r.Rounds)
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

// judged is a result without a baseline, and without a target where met is nil.
func (s series) judged(name, unit, target string, met func(value float64) bool) result {
	r := result{Name: name, Value: s.median(), Unit: unit, Target: target, OK: true, Rounds: len(s)}
	if met == nil {
		r.Target, r.Met = noTarget, len(s)
		return r
	}
	for _, v := range s {
		if met(v) {
			r.Met++
		}
	}
	r.OK = r.Met == r.Rounds
	return r
}

// beside compares with a baseline, without a target where met is nil.
func (s series) beside(name, unit, baseline string, other series, target string, met func(value, ratio float64) bool) result {
	r := s.judged(name, unit, target, nil)
	r.Baseline, r.BaselineValue, r.Ratio = baseline, other.median(), s.against(other)
	if met == nil {
		return r
	}
	r.Target, r.Met = target, 0
	for i, v := range s {
		if met(v, v/other[i]) {
			r.Met++
		}
	}
	r.OK = r.Met == r.Rounds
	return r
}

// least and most are what ratios are held against.
func least(limit float64) (target string, met func(value, ratio float64) bool) {
	return fmt.Sprintf("ratio at least %v", limit), func(_, ratio float64) bool { return ratio >= limit }
}

func most(limit float64) (target string, met func(value, ratio float64) bool) {
	return fmt.Sprintf("ratio at most %v", limit), func(_, ratio float64) bool { return ratio <= limit }
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
