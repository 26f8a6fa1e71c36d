package source

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Whatever is appended first, an entry that must be absent or one that has a value, and however often memory goes from one to another:
// each has what was appended to it, and nothing else.
func TestEntriesThatShareMemoryKeepWhatIsTheirs(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	all := []*Entries{Shared(), Shared(), Shared(), new(Entries)}
	want := make([][]string, len(all))
	for step := range 20_000 {
		i := random.IntN(len(all))
		e := all[i]
		key := fmt.Sprintf("%d:%d:%s", i, step, strings.Repeat("x", random.IntN(50)))
		switch n := random.IntN(20); {
		case n == 0:
			if e.shared {
				e.Release()
			} else {
				e.Reset()
			}
			want[i] = nil
		case n == 1 && e.shared:
			e.Release()
			e.Release()
			want[i] = nil
		case n < 8:
			e.absent([]byte(key))
			want[i] = append(want[i], key)
		case n < 12:
			at := e.mark()
			e.absent([]byte("no " + key))
			e.rewind(at)
		default:
			e.take()
			it := item{key: len(e.arena), present: true}
			e.arena = append(e.arena, key...)
			it.value = len(e.arena)
			e.arena = append(e.arena, valueOf(step)...)
			it.end = len(e.arena)
			e.items = append(e.items, it)
			want[i] = append(want[i], key+"="+valueOf(step))
		}
		for i, e := range all {
			var got []string
			for n := range e.Len() {
				entry := string(e.Key(n))
				if value, present := e.Value(n); present {
					entry += "=" + string(value)
				}
				got = append(got, entry)
			}
			if !slices.Equal(got, want[i]) {
				t.Fatalf("step %d: %d has %q, want %q", step, i, got, want[i])
			}
		}
	}
}

// valueOf is a value of that step.
func valueOf(step int) string { return strings.Repeat(string(rune('a'+step%26)), step%40) }

// Of a large value nothing is kept for others.
func TestMemoryOfALargeValueIsNotKept(t *testing.T) {
	e := Shared()
	e.absent(make([]byte, spareBytes+1))
	e.Release()
	for range 20 {
		if e.take(); cap(e.arena) > spareBytes {
			t.Fatalf("%d bytes were kept", cap(e.arena))
		}
		e = Shared()
	}
}
