package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
)

const (
	// chunkRows is how many rows or keys are compared at a time.
	chunkRows = 2000
	// maxSuspects bounds the memory of a second look.
	maxSuspects = 20000
	// settlePause is how often it looks whether the lanes have come far enough.
	settlePause = 100 * time.Millisecond
)

// Options say how to compare.
type Options struct {
	// Sample compares about this many rows and keys instead of all. 0 is all.
	Sample int
	// Repair touches what differs, so that a worker mends it.
	Repair bool
	// Patience is how long the lanes may take to pass a moment, and how long a tuple may
	// keep changing under the look. Defaults to 30 seconds.
	Patience time.Duration
}

// Result counts what was found. Entries are rows that should have an entry; the others
// are among them, except for Orphaned. Failing are rows that have none because making it
// raises an error: an entry that is there all the same counts as orphaned.
type Result struct {
	Entries, Stale, Missing, Orphaned, Failing int
	// Lazy: an entry may be absent, for the sink was never warmed whole or its entries
	// expire; so Missing is not counted.
	Lazy bool
}

// Clean reports whether nothing differs.
func (r Result) Clean() bool { return r.Stale == 0 && r.Missing == 0 && r.Orphaned == 0 }

// Add sums two results.
func (r Result) Add(o Result) Result {
	return Result{
		Entries: r.Entries + o.Entries, Stale: r.Stale + o.Stale, Missing: r.Missing + o.Missing,
		Orphaned: r.Orphaned + o.Orphaned, Failing: r.Failing + o.Failing, Lazy: r.Lazy || o.Lazy,
	}
}

// String is the last line of freshet verify.
func (r Result) String() string {
	found, missing := "in step", fmt.Sprintf("%d missing", r.Missing)
	if !r.Clean() {
		found = "out of step"
	}
	if r.Lazy {
		missing = "missing not counted"
	}
	text := fmt.Sprintf("%s: %d entries, %d stale, %s, %d orphaned", found, r.Entries, r.Stale, missing, r.Orphaned)
	if r.Failing > 0 {
		text += fmt.Sprintf(", %d failing", r.Failing)
	}
	return text
}

// Run compares one sink on one target.
func Run(ctx context.Context, db *pgxpool.Pool, t *target.Target, sink *catalog.Sink, o Options) (Result, error) {
	if sink.Dropping {
		return Result{}, fmt.Errorf("sink %s is being dropped", sink.Name)
	}
	reader, err := source.NewReader(db, sink, nil)
	if err != nil {
		return Result{}, err
	}
	reader.Hold(t.MaxValue(ctx))
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	v := &verification{
		db: db, target: t, sink: sink, reader: reader, options: o,
		suspects: make(map[string][]string), judged: make(map[string]bool),
	}
	v.result.Lazy = sink.Coverage != "full" || sink.Expires > 0 || sink.ExpiresAt != ""
	if err := v.rows(ctx); err != nil {
		return v.result, err
	}
	if err := v.keys(ctx); err != nil {
		return v.result, err
	}
	return v.result, v.judge(ctx)
}

type verification struct {
	db      *pgxpool.Pool
	target  *target.Target
	sink    *catalog.Sink
	reader  *source.Reader
	options Options
	result  Result
	// suspects are keys that differed at first sight, with their tuples.
	suspects map[string][]string
	// judged keys were counted already; the way back over the keys meets them again.
	judged map[string]bool
}

// rows compares every row of the source with its entry.
func (v *verification) rows(ctx context.Context) error {
	var (
		entries source.Entries
		after   []string
	)
	for {
		entries.Reset()
		var (
			chunk source.Chunk
			err   error
		)
		if v.options.Sample > 0 {
			chunk, err = v.reader.Sample(ctx, v.options.Sample, &entries)
		} else {
			chunk, err = v.reader.Chunk(ctx, after, nil, chunkRows, &entries)
		}
		if err != nil {
			return err
		}
		if err := v.compare(ctx, &entries); err != nil {
			return err
		}
		if v.options.Sample > 0 || chunk.End {
			return nil
		}
		after = chunk.Upper
	}
}

func (v *verification) compare(ctx context.Context, e *source.Entries) error {
	failing := len(e.Failures())
	v.result.Entries += e.Len() - failing
	v.result.Failing += failing
	for from := 0; from < e.Len(); from += chunkRows {
		keys := make([]string, 0, chunkRows)
		for i := from; i < min(from+chunkRows, e.Len()); i++ {
			keys = append(keys, string(e.Key(i)))
		}
		found, err := v.read(ctx, keys)
		if err != nil {
			return err
		}
		for i, key := range keys {
			want, present := e.Value(from + i)
			if got := found[i]; (got != nil) != present || (present && *got != string(want)) {
				if err := v.suspect(ctx, key); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// keys looks for a row behind every key that is in the target.
func (v *verification) keys(ctx context.Context) error {
	enough := errors.New("enough")
	seen := 0
	err := scan.Keys(ctx, v.db, v.target, v.sink, nil, func(keys []string, tuples [][]string) error {
		gone, err := v.reader.Absent(ctx, tuples)
		if err != nil {
			return err
		}
		for _, tuple := range gone {
			if err := v.suspect(ctx, v.sink.Template.Of(tuple)); err != nil {
				return err
			}
		}
		if seen += len(keys); v.options.Sample > 0 && seen >= v.options.Sample {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

func (v *verification) suspect(ctx context.Context, key string) error {
	tuple, ok := v.sink.Template.Parse(key)
	if !ok {
		return fmt.Errorf("key %q does not parse back", key)
	}
	if !v.judged[key] {
		v.suspects[key] = tuple
	}
	if len(v.suspects) < maxSuspects {
		return nil
	}
	return v.judge(ctx)
}

// read fetches entries; nil where there is none, or where the key holds something that
// is not a string.
func (v *verification) read(ctx context.Context, keys []string) ([]*string, error) {
	values, err := v.target.Shared().MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read entries from target %s: %w", v.target.Name, err)
	}
	found := make([]*string, len(values))
	for i, value := range values {
		if text, ok := value.(string); ok {
			found[i] = &text
		}
	}
	return found, nil
}
