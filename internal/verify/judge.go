package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/maintain"
	"github.com/freshet/freshet/internal/source"
)

// judge looks at the suspects again until each is cleared or counted. A round reads
// the rows, waits until the lanes have passed that moment, and only then reads the
// entries: whatever differs now and was not touched in between is wrong. What was
// touched is followed for a while.
func (v *verification) judge(ctx context.Context) error {
	deadline := time.Now().Add(v.options.Patience)
	var wrong [][]string
	for len(v.suspects) > 0 {
		found, err := v.round(ctx)
		wrong = append(wrong, found...)
		if err != nil {
			return err
		}
		if time.Now().After(deadline) && len(v.suspects) > 0 {
			// These changed all the time, and nobody can say whether they were wrong.
			return fmt.Errorf("%d entries of sink %s changed faster than they could be compared; try again when it is quieter",
				len(v.suspects), v.sink.Name)
		}
	}
	if v.options.Repair && len(wrong) > 0 {
		return maintain.Touch(ctx, v.db, v.sink, wrong)
	}
	return nil
}

// round takes suspects that are right, or that are surely wrong, off the list, and
// returns the latter.
func (v *verification) round(ctx context.Context) ([][]string, error) {
	var (
		keys   []string
		tuples [][]string
		e      source.Entries
		want   = make(map[string]*string, len(v.suspects))
		since  *cursor.Snapshot
		last   cursor.Snapshot
	)
	for key, tuple := range v.suspects {
		keys, tuples = append(keys, key), append(tuples, tuple)
	}
	for from := 0; from < len(keys); from += chunkRows {
		e.Reset()
		meta, err := v.reader.Lookup(ctx, tuples[from:min(from+chunkRows, len(keys))], &e)
		if err != nil {
			return nil, err
		}
		for i := range e.Len() {
			if value, present := e.Value(i); present {
				text := string(value)
				want[string(e.Key(i))] = &text
			}
		}
		if since == nil {
			since = &meta.Snapshot
		}
		last = meta.Snapshot
	}

	if err := v.passed(ctx, last); err != nil {
		return nil, err
	}
	got := make([]*string, 0, len(keys))
	for from := 0; from < len(keys); from += chunkRows {
		found, err := v.read(ctx, keys[from:min(from+chunkRows, len(keys))])
		if err != nil {
			return nil, err
		}
		got = append(got, found...)
	}
	// A backfill may have written an older value that its validation has not touched
	// yet. Once no intent is open, what it touched is among the touched.
	if err := v.validated(ctx); err != nil {
		return nil, err
	}
	touched, err := v.reader.Touched(ctx, *since, nil, nil)
	if err != nil {
		return nil, err
	}

	var wrong [][]string
	for i, key := range keys {
		w, g := want[key], got[i]
		same := (w == nil && g == nil) || (w != nil && g != nil && *w == *g)
		if !same {
			if _, changed := touched[key]; changed {
				continue
			}
			if v.count(w, g) {
				wrong = append(wrong, v.suspects[key])
			}
		}
		v.clear(key)
	}
	return wrong, v.follow(ctx)
}

// clear takes a key off the list for good.
func (v *verification) clear(key string) {
	v.judged[key] = true
	delete(v.suspects, key)
}

const (
	followKeys = 200
	followFor  = time.Second
)

// follow watches suspects that keep changing: an entry that holds what its row held
// a moment ago is in step, whatever the row holds by now.
func (v *verification) follow(ctx context.Context) error {
	var (
		keys   []string
		tuples [][]string
		e      source.Entries
		until  = time.Now().Add(followFor)
	)
	for key, tuple := range v.suspects {
		if keys, tuples = append(keys, key), append(tuples, tuple); len(keys) == followKeys {
			break
		}
	}
	seen := make(map[string]bool)
	for len(keys) > 0 && time.Now().Before(until) && ctx.Err() == nil {
		e.Reset()
		if _, err := v.reader.Lookup(ctx, tuples, &e); err != nil {
			return err
		}
		present := make(map[string]bool, len(keys))
		for i := range e.Len() {
			if value, ok := e.Value(i); ok {
				key := string(e.Key(i))
				present[key], seen[key+"\x00"+string(value)] = true, true
			}
		}
		for _, key := range keys {
			if !present[key] {
				seen[key] = true
			}
		}
		found, err := v.read(ctx, keys)
		if err != nil {
			return err
		}
		left := 0
		for i, key := range keys {
			mark := key
			if found[i] != nil {
				mark = key + "\x00" + *found[i]
			}
			if seen[mark] {
				v.clear(key)
				continue
			}
			keys[left], tuples[left] = keys[i], tuples[i]
			left++
		}
		keys, tuples = keys[:left], tuples[:left]
	}
	return ctx.Err()
}

// count counts a difference, and reports whether it is one.
func (v *verification) count(want, got *string) bool {
	switch {
	case want == nil:
		v.result.Orphaned++
	case got != nil:
		v.result.Stale++
	case v.result.Lazy:
		return false
	default:
		v.result.Missing++
	}
	return true
}

// passed waits until every lane of the sink on this target has applied what s sees.
func (v *verification) passed(ctx context.Context, s cursor.Snapshot) error {
	return v.await(ctx, fmt.Sprintf("sink %s does not get further on target %s: is a worker running? (select * from freshet.status)",
		v.sink.Name, v.target.Name), func() (bool, error) {
		return catalog.LanesPassed(ctx, v.db, v.sink.ID, v.target.Name, s.String())
	})
}

// validated waits until no chunk of a backfill is between its intent and its
// validation.
func (v *verification) validated(ctx context.Context) error {
	// A running backfill opens an intent as it closes the one before: any that is open
	// now has to change once.
	var open []string
	const query = `
		select coalesce(pg_catalog.array_agg(r.lease_id || ' ' || r.steps), '{}')
		from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
		where l.sink_id = $1 and l.target = $2 and r.intent_snapshot is not null`
	if err := v.db.QueryRow(ctx, query, v.sink.ID, v.target.Name).Scan(&open); err != nil {
		return fmt.Errorf("look for open chunks: %w", err)
	}
	if len(open) == 0 {
		return nil
	}
	return v.await(ctx, fmt.Sprintf("a backfill of sink %s does not get further: is a worker running? (select * from freshet.backfills)", v.sink.Name),
		func() (bool, error) {
			var closed bool
			if err := v.db.QueryRow(ctx, "select not ($3::text[] && ("+query+"))", v.sink.ID, v.target.Name, open).Scan(&closed); err != nil {
				return false, fmt.Errorf("look for open chunks: %w", err)
			}
			return closed, nil
		})
}

// await waits until state is reached; otherwise is the error when that takes too long.
func (v *verification) await(ctx context.Context, otherwise string, state func() (bool, error)) error {
	deadline := time.Now().Add(v.options.Patience)
	for {
		if reached, err := state(); err != nil || reached {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s", otherwise)
		}
		timer := time.NewTimer(settlePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
