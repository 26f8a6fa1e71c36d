package source

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

// Whatever several who read a batch give back, and in whatever order: what one of them takes next follows each other, for all rows
// between the first and the last are read, and tuples that these pass by count as absent.
func TestWhatIsTakenFollowsEachOther(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 0))
		all := tuples{width: 1}
		count := random.IntN(200)
		for i := range count {
			for range 2 {
				all.arena = strconv.AppendInt(all.arena, int64(i), 10)
				all.ends = append(all.ends, len(all.arena))
			}
		}
		var (
			rest  = newLeft(all, nil)
			batch = Batch{left: rest}
			taken []tuples
			seen  = make(map[int]bool)
		)
		number := func(some tuples, i int) int {
			n, err := strconv.Atoi(string(some.key(i)))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for batch.More() || len(taken) > 0 {
			if batch.More() && len(taken) < 3 && random.IntN(2) == 0 {
				some := rest.take(1 + random.IntN(40))
				for i := 1; i < some.len(); i++ {
					if number(some, i) != number(some, i-1)+1 {
						t.Fatalf("seed %d: %d is taken after %d", seed, number(some, i), number(some, i-1))
					}
				}
				taken = append(taken, some)
				continue
			}
			if len(taken) == 0 {
				continue
			}
			at := random.IntN(len(taken))
			some := taken[at]
			taken = append(taken[:at], taken[at+1:]...)
			read := 1 + random.IntN(some.len())
			apart := read + random.IntN(some.len()-read+1)
			for i := range read {
				if n := number(some, i); seen[n] {
					t.Fatalf("seed %d: %d is read twice", seed, n)
				} else {
					seen[n] = true
				}
			}
			rest.done(some.part(read, apart), some.part(apart, some.len()))
		}
		if len(seen) != count {
			t.Fatalf("seed %d: %d of %d tuples are read", seed, len(seen), count)
		}
		if some := rest.take(1); some.len() != 0 {
			t.Fatalf("seed %d: %d more", seed, some.len())
		}
	}
}
