package lane

import (
	"testing"

	"github.com/freshet/freshet/internal/source"
)

// Whatever a session does with what it has of the memory of all: when it ends, there is as much as before.
func TestSpareIsWholeWhenASessionEnds(t *testing.T) {
	spare := NewSpare(3)
	session := borrowed{from: spare}
	var taken []*source.Entries
	for range 3 {
		taken = append(taken, <-spare.entries)
		session.took()
	}
	session.back(taken[1])
	session.end()
	for range 3 {
		select {
		case <-spare.entries:
		default:
			t.Fatal("some is missing")
		}
	}
	select {
	case <-spare.entries:
		t.Error("there is more than before")
	default:
	}
}
