package preview

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/transform"
)

// Result is what becomes of a key. The same words are freshet.preview's.
type Result string

// The results.
const (
	// Entry: there is one.
	Entry Result = "entry"
	// NoRow: no row has this key.
	NoRow Result = "no row"
	// Filtered: the filter lets no row pass.
	Filtered Result = "filtered"
	// Null: the value is null, or nil.
	Null Result = "null"
	// Expired: its moment to expire is in the past.
	Expired Result = "expired"
	// Failed: making it raises an error.
	Failed Result = "error"
)

// Row is a key and what becomes of it.
type Row struct {
	Key    string
	Result Result
	Value  []byte
	// Until is when the entry would expire if it was written now, zero for never.
	Until time.Time
	// Error says why it failed.
	Error string
}

// Keys shows these keys of a sink, in the order given.
func Keys(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, keys []string) ([]Row, error) {
	tuples := make([][]string, len(keys))
	for i, key := range keys {
		var ours bool
		if tuples[i], ours = sink.Template.Parse(key); !ours {
			return nil, fmt.Errorf("%q is no key of sink %s", key, sink.Name)
		}
	}
	return show(ctx, db, sink, functions, tuples)
}

// First shows the first rows of a sink's source in key order, at most limit.
func First(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, limit int) ([]Row, error) {
	reader, err := source.NewReader(db, sink, functions)
	if err != nil {
		return nil, err
	}
	tuples, err := reader.First(ctx, limit)
	if err != nil {
		return nil, err
	}
	return show(ctx, db, sink, functions, tuples)
}

func show(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, tuples [][]string) ([]Row, error) {
	reader, err := source.NewReader(db, sink, functions)
	if err != nil {
		return nil, err
	}
	var e source.Entries
	meta, err := reader.Lookup(ctx, tuples, &e)
	if err != nil {
		return nil, err
	}
	failures := make(map[string]string)
	for _, f := range e.Failures() {
		failures[f.Key] = f.Message
	}
	made := make(map[string]Row, e.Len())
	for i := range e.Len() {
		key := string(e.Key(i))
		row := Row{Key: key}
		if message, failed := failures[key]; failed {
			row.Result, row.Error = Failed, message
		} else if value, present := e.Value(i); present {
			row.Result, row.Value = Entry, slices.Clone(value)
			if at := e.Expires(i); at != 0 {
				row.Until = time.UnixMilli(at).UTC()
			} else if sink.Expires > 0 {
				row.Until = meta.At.Add(sink.Expires).UTC()
			}
		}
		made[key] = row
	}

	rows := make([]Row, len(tuples))
	var absent [][]string
	for i, tuple := range tuples {
		key := sink.Template.Of(tuple)
		rows[i] = made[key]
		if rows[i].Key = key; rows[i].Result == "" {
			absent = append(absent, tuple)
		}
	}
	why, err := reasons(ctx, db, sink, functions, absent)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Result == "" {
			rows[i].Result = why[rows[i].Key]
		}
	}
	return rows, nil
}

// reasons says of tuples without an entry why they have none: by asking again, each time
// with less of what can be the reason.
func reasons(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, tuples [][]string) (map[string]Result, error) {
	why := make(map[string]Result, len(tuples))
	for _, t := range tuples {
		why[sink.Template.Of(t)] = Expired
	}
	filtered := *sink
	filtered.Transform, filtered.ExpiresAt = "", ""
	if filtered.Value = ""; sink.Grouped {
		filtered.Value, filtered.ValueType = "count(*)", 0
	}
	bare := filtered
	bare.Filter = ""
	valued := *sink
	valued.ExpiresAt = ""
	for _, q := range []struct {
		sink   *catalog.Sink
		reason Result
	}{{&valued, Null}, {&filtered, Filtered}, {&bare, NoRow}} {
		if len(tuples) == 0 {
			break
		}
		if q.sink == &valued && sink.ExpiresAt == "" {
			// The value alone is to blame, unless it is what comes below.
			for key := range why {
				why[key] = Null
			}
			continue
		}
		reader, err := source.NewReader(db, q.sink, functions)
		if err != nil {
			return nil, err
		}
		gone, err := reader.Absent(ctx, tuples)
		if err != nil {
			return nil, err
		}
		for _, t := range gone {
			why[sink.Template.Of(t)] = q.reason
		}
	}
	return why, nil
}
