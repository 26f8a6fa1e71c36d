package source

import (
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"testing"
)

// Whatever several who read a batch give back, and in whatever order: what one of them takes next follows each other, for all rows
// between the first and the last are read, and tuples that these pass by count as absent.
func TestWhatIsTakenFollowsEachOther(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 0))
		count := random.IntN(200)
		add := func(to *tuples, i int) {
			for range 2 {
				to.arena = strconv.AppendInt(to.arena, int64(i), 10)
				to.ends = append(to.ends, len(to.arena))
			}
		}
		rest := new(left)
		if seed%2 == 0 {
			all := tuples{width: 1}
			for i := range count {
				add(&all, i)
			}
			rest = newLeft(all)
		} else {
			raw := newRawTuples(&raw{columns: []rawColumn{{size: 8}}, width: 8})
			for i := range count {
				raw.numbers = append(raw.numbers, uint64(i))
			}
			rest = newRawLeft(raw, func(to *tuples, from, until int) error {
				return raw.each(from, until, func(values [][]byte) error {
					add(to, int(binary.BigEndian.Uint64(values[0])))
					return nil
				})
			})
		}
		var (
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
				some, err := rest.take(1 + random.IntN(40))
				if err != nil || some.len() == 0 {
					t.Fatalf("seed %d: %d are taken, %v", seed, some.len(), err)
				}
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
			rest.giveBack(some.part(read, apart), some.part(apart, some.len()))
		}
		if len(seen) != count {
			t.Fatalf("seed %d: %d of %d tuples are read", seed, len(seen), count)
		}
		if some, err := rest.take(1); err != nil || some.len() != 0 {
			t.Fatalf("seed %d: %d more", seed, some.len())
		}
	}
}
