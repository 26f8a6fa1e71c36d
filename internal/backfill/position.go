package backfill

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Position is a tuple as the cursor of a range's control key, where a finished range
// leaves its last one.
func Position(tuple []string) string {
	if tuple == nil {
		return "[]"
	}
	text, err := json.Marshal(tuple)
	if err != nil {
		// Strings always marshal.
		panic(err)
	}
	return string(text)
}

// PositionOf is the position of a cursor.
func PositionOf(cursor string) string { return parseReached(cursor).position }

// reached is how far a range has come in the target, as the cursor of its control key: all
// rows up to the position are there.
type reached struct {
	position string
	// step is the number of the intent that the last of them were written under; 0 is none.
	step int64
	// rows are how many of its rows are there, and no others of them; unknown: any of those
	// after the position may be.
	rows int
}

const unknown = -1

// String is the cursor: `["17"]`, or `["17"]+3:2000`, where -1 is unknown.
func (r reached) String() string {
	if r.step == 0 {
		return r.position
	}
	return fmt.Sprintf("%s+%d:%d", r.position, r.step, r.rows)
}

// parseReached reads a cursor.
func parseReached(cursor string) reached {
	at := strings.LastIndexByte(cursor, ']') + 1
	r := reached{position: cursor[:at]}
	if n, err := fmt.Sscanf(cursor[at:], "+%d:%d", &r.step, &r.rows); n != 2 || err != nil {
		r.step, r.rows = 0, 0
	}
	return r
}

// tuple is up to which all rows of the intent are there, and no others. It returns false if
// that is not sure: bytes that are no UTF-8 all look alike in JSON, and not like the character
// that stands for them.
func (r reached) tuple() ([]string, bool) {
	var tuple []string
	err := json.Unmarshal([]byte(r.position), &tuple)
	return tuple, err == nil && r.rows != unknown && !strings.Contains(r.position, `\ufffd`)
}
