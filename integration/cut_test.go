package integration

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// severed is an env whose worker reaches each server through a proxy: every sink is on a
// target of its own, all of them the same server, so that as many connections are cut at a
// time as there are sinks.
type severed struct {
	*env
	sinks    []string
	cutters  map[string]*cutter
	postgres *cutter
	rounds   int
}

func newSevered(t *testing.T, sinks int) *severed {
	t.Helper()
	s := &severed{env: newEnv(t), cutters: make(map[string]*cutter), postgres: new(cutter)}
	s.exec(counters)
	s.exec("insert into counters (id, pad) select g, 'pad' from generate_series(1, 8) g")
	s.targets = make(map[string]string)
	for n := range sinks {
		name := fmt.Sprintf("c%d", n)
		p, through := newProxy(t, s.redisURL)
		s.cutters[name] = new(cutter)
		p.guarded(s.cutters[name])
		s.targets[name] = through
		s.sinks = append(s.sinks, name)
	}
	p, through := newProxy(t, s.workerURL)
	p.guarded(s.postgres)
	s.workerURL = through
	return s
}

// setUp creates the sinks and starts the worker.
func (s *severed) setUp() {
	s.t.Helper()
	for _, sink := range s.sinks {
		s.exec("select freshet.create_sink($1::text, 'counters', key => $1::text || ':${id}', targets => array[$1::text])", sink)
	}
	s.start()
	s.allInStep()
	s.done()
}

// change touches rows in each way that a batch can hold.
func (s *severed) change() {
	s.t.Helper()
	s.rounds++
	s.exec("update counters set version = version + 1")
	s.exec("delete from counters where id = $1", 100+s.rounds-1)
	s.exec("insert into counters (id, pad) values ($1, 'pad')", 100+s.rounds)
}

func (s *severed) allInStep() {
	s.t.Helper()
	for _, sink := range s.sinks {
		s.follow(sink+":*", countersPromise(sink))
	}
}

// forget removes the entries of every sink by hand.
func (s *severed) forget() {
	s.t.Helper()
	for _, sink := range s.sinks {
		keys, err := s.redis.Keys(s.t.Context(), sink+":*").Result()
		if err == nil && len(keys) > 0 {
			err = s.redis.Del(s.t.Context(), keys...).Err()
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// done waits until no backfill, sweep or purge is left.
func (s *severed) done() {
	s.t.Helper()
	s.await("the work is done", func() bool {
		return one[bool](s.env, "select not exists (select from freshet.lease where kind in ('backfill', 'sweep', 'purge') and finished_at is null)")
	})
}

// orphan plants entries without a row, as a loss of the target could.
func (s *severed) orphan() {
	s.t.Helper()
	for _, sink := range s.sinks {
		if err := s.redis.Set(s.t.Context(), sink+":999", "{}", 0).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// exchange is a piece of work, and how it is seen to be done.
type exchange struct {
	name string
	// work begins it, done waits for its end.
	work, done func(s *severed)
	// redis and postgres are how many bytes lie between two places where it is cut.
	redis, postgres int
}

func exchanges() []exchange {
	shards := 1
	nothing := func(*severed) {}
	return []exchange{
		{"a batch", (*severed).change, nothing, 16, 256},
		{"a backfill", func(s *severed) {
			s.forget()
			for _, sink := range s.sinks {
				s.exec("select freshet.backfill($1)", sink)
			}
			s.change()
		}, (*severed).done, 150, 5000},
		{"a sweep", func(s *severed) {
			s.orphan()
			for _, sink := range s.sinks {
				s.exec("select freshet.sweep($1)", sink)
			}
		}, (*severed).done, 120, 4000},
		{"a change of shards", func(s *severed) {
			shards = 3 - shards
			s.change()
			for _, sink := range s.sinks {
				s.exec("select freshet.alter_sink($1, shards => $2)", sink, shards)
			}
			s.change()
		}, nothing, 50, 400},
		{"a take-over", func(s *severed) {
			// By nobody else: the worker finds its own leases silent.
			s.change()
			s.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where kind = 'sync'")
			s.admin().exec("select freshet.take_over($1, '{}', '1 s')", s.sinks)
		}, nothing, 50, 400},
	}
}

// cutAnywhere repeats an exchange, cut at another place each time, until it was cut in
// every place of both directions. As many places at a time as there are cutters.
func (s *severed) cutAnywhere(x exchange, cutters []*cutter, step int) {
	s.t.Helper()
	repeat := func() {
		s.t.Helper()
		x.work(s)
		s.allInStep()
		x.done(s)
		s.allInStep()
	}
	repeat() // and with it what is left of the beginning
	total := s.measure(repeat, cutters)
	rounds, places, missed := 0, 0, 0
	for _, d := range []direction{toServer, toWorker} {
		for n := 0; n <= total[d]; {
			for _, c := range cutters {
				c.arm(d, n%(total[d]+1))
				places++
				n += step
			}
			repeat()
			for _, c := range cutters {
				if c.disarm() {
					missed++ // the exchange was shorter this time
				}
			}
			rounds++
			if s.t.Failed() {
				s.t.Fatalf("cut before byte %d of %d %s", n, total[d], d)
			}
		}
	}
	s.t.Logf("%d bytes to the server, %d to the worker; cut in %d of %d places, in %d rounds",
		total[toServer], total[toWorker], places-missed, places, rounds)
	if missed > places*3/4 {
		s.t.Errorf("cut in %d of %d places only", places-missed, places)
	}
}

// measure is how many bytes an exchange takes, in each direction: that of most cutters, for a
// slice may have ended, and another begun, with one of them; and the least of three times,
// for with a slow one, all of them may have looked at their servers beside it.
func (s *severed) measure(repeat func(), cutters []*cutter) (least [2]int) {
	s.t.Helper()
	for n := range 3 {
		for _, c := range cutters {
			c.counted()
		}
		repeat()
		var counts [2][]int
		for _, c := range cutters {
			for d, n := range c.counted() {
				counts[d] = append(counts[d], n)
			}
		}
		for d := range least {
			slices.Sort(counts[d])
			if most := counts[d][len(counts[d])/2]; n == 0 || most < least[d] {
				least[d] = most
			}
		}
	}
	return least
}

// every is how far apart the places are: much closer when there is time for that.
func every(step int) int {
	if os.Getenv("FRESHET_TEST_EXHAUSTIVE") != "" {
		return max(1, step/16)
	}
	return 9 * step
}

func TestRedisConnectionCutAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	for _, x := range exchanges() {
		t.Run(x.name, func(t *testing.T) {
			s := newSevered(t, 16)
			s.setUp()
			var cutters []*cutter
			for _, sink := range s.sinks {
				cutters = append(cutters, s.cutters[sink])
			}
			s.cutAnywhere(x, cutters, every(x.redis))
		})
	}
}

func TestPostgresConnectionCutAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	for _, x := range exchanges() {
		t.Run(x.name, func(t *testing.T) {
			s := newSevered(t, 1)
			s.setUp()
			s.cutAnywhere(x, []*cutter{s.postgres}, every(x.postgres))
		})
	}
}
