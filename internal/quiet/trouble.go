package quiet

import (
	"log/slog"
	"regexp"
	"time"
)

const (
	// again is after how long what still goes on is said once more.
	again = 10 * time.Minute
	// most is how many different errors are said within that time.
	most = 20
)

// Trouble is something that can go wrong for a while. It says wrong when that begins, when it
// goes wrong otherwise than before, and every ten minutes; and right when it is over. Its
// methods must not be called concurrently.
type Trouble struct {
	log          *slog.Logger
	wrong, right string
	// said is when which errors were, since it began; nil while nothing is wrong.
	said map[string]time.Time
}

// NewTrouble makes one that has not begun.
func NewTrouble(log *slog.Logger, wrong, right string) *Trouble {
	return &Trouble{log: log, wrong: wrong, right: right}
}

// port is the one part of an error that differs from one attempt to the next and says nothing.
var port = regexp.MustCompile(`:[0-9]+\b`)

// shape is what an error has in common with the same one of another attempt.
func shape(err string) string { return port.ReplaceAllString(err, "") }

// Note takes note of how it went, err nil for well.
func (t *Trouble) Note(err error) {
	if err == nil {
		if t.said != nil {
			t.said = nil
			t.log.Info(t.right)
		}
		return
	}
	if t.said == nil {
		t.said = make(map[string]time.Time)
	}
	now, what := time.Now(), shape(err.Error())
	for text, at := range t.said {
		if now.Sub(at) >= again {
			delete(t.said, text)
		}
	}
	if _, is := t.said[what]; is || len(t.said) >= most {
		return
	}
	t.said[what] = now
	t.log.Warn(t.wrong, "err", err)
}
