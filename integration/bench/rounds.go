package main

import "time"

// timing is of what is measured in a round: how long it took, and which part of the processors others had meanwhile, of several the most.
type timing struct {
	took  time.Duration
	noise float64
}

// run measures body.
func (t *timing) run(body func() error) error {
	noise, err := others(func() error {
		begin := time.Now()
		err := body()
		t.took = time.Since(begin)
		return err
	})
	t.noise = max(t.noise, noise)
	return err
}

// measured is a round: which part of the processors others had, what it came to in words, and what counts it.
type measured struct {
	noise float64
	said  string
	count func()
}

// quietRounds measures as many rounds as are asked for. One in which others had more of the processors than [quiet] is measured again,
// at most [again] times as many as are asked for.
func (s *stage) quietRounds(measure func(round int) (measured, error)) error {
	left := again * s.rounds
	for round := 0; round < s.rounds; {
		m, err := measure(round)
		if err != nil {
			return err
		}
		if m.noise > quiet && left > 0 {
			left--
			s.say("  not counted, for others had %.0f %% of the processors: %s", 100*m.noise, m.said)
			continue
		}
		m.count()
		round++
		s.say("  round %d: %s; others had %.0f %% of the processors", round, m.said, 100*m.noise)
	}
	return nil
}
