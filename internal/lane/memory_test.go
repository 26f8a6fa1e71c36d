package lane

import (
	"testing"

	"github.com/freshet/freshet/internal/source"
)

// Whatever a session does with what it has of the memory of all: when it ends, there is as much as before.
func TestMemoryIsWholeWhenASessionEnds(t *testing.T) {
	memory := NewMemory(3, 1)
	session := borrowed{Memory: memory}
	var taken []*source.Entries
	for range 3 {
		taken = append(taken, <-memory.spare)
		session.took()
	}
	session.back(taken[1])
	session.end()
	for range 3 {
		select {
		case <-memory.spare:
		default:
			t.Fatal("some is missing")
		}
	}
	select {
	case <-memory.spare:
		t.Error("there is more than before")
	default:
	}
}

func TestLanesFarBehindShareTheMemory(t *testing.T) {
	memory := NewMemory(0, 2)
	sessions := make([]borrowed, 5)
	for i := range sessions {
		sessions[i].Memory = memory
	}
	for i, want := range []int{100, 100, 66, 50, 40} {
		// One that says so twice is still one.
		sessions[i].isFar(true)
		sessions[i].isFar(true)
		if got := memory.portion(100); got != want {
			t.Errorf("of 100, each of %d lanes has %d, want %d", i+1, got, want)
		}
	}
	sessions[0].isFar(false)
	for i := range sessions {
		sessions[i].end()
	}
	if n := memory.behind.Load(); n != 0 {
		t.Errorf("%d lanes are far behind when all sessions have ended", n)
	}
}
