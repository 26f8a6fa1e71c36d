package backfill

import "encoding/json"

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

// partOf is the cursor while the chunk after a position is written, which takes several
// transactions. Where it ended says nothing of how far that came.
func partOf(position string) string { return position + "+" }
