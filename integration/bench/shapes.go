package main

import (
	"context"
	"errors"
)

// shapes are ways to make an entry of the twelve columns.
var shapes = []struct{ name, more string }{
	{"columns", ""},
	{"transform", `, transform => '{id: record.id, name: upper(record.name), balance: record.balance, at: record.created_at, settings: record.settings}'`},
	{"omit", `, transform => 'omit(record, "token")'`},
	{"value", ", value => 'jsonb_build_object(''id'', id, ''name'', upper(name), ''balance'', balance, ''at'', created_at, ''settings'', settings)'"},
	{"row", ", value => 'to_jsonb(people)'"},
}

// backfillShapes warms a table with a sink of each shape in turn.
func backfillShapes(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(500_000)
	if err := s.makeTable(ctx, "people", rows); err != nil {
		return nil, err
	}
	_, end, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	speeds := make([]series, len(shapes))
	// slower is by how many microseconds a row each is slower than plain columns.
	slower := make([]series, len(shapes))
	for range s.rounds {
		for i, shape := range shapes {
			if err := s.empty(ctx); err != nil {
				return nil, errors.Join(err, end())
			}
			took, err := s.warm(ctx, "people", shape.more)
			if err != nil {
				return nil, errors.Join(err, end())
			}
			speeds[i] = append(speeds[i], float64(rows)/took.Seconds())
			round := len(speeds[i]) - 1
			slower[i] = append(slower[i], 1e6/speeds[i][round]-1e6/speeds[0][round])
		}
	}
	var list []result
	for i, shape := range shapes[1:] {
		r := speeds[i+1].beside("backfill_"+shape.name, "rows/s", "plain columns", speeds[0], "", nil)
		if shape.name == "transform" {
			more := slower[i+1].judged("", "", "at most 2 us a row more", func(v float64) bool { return v <= 2 })
			r.Target, r.OK, r.Met = more.Target, more.OK, more.Met
		}
		list = append(list, r)
	}
	return list, end()
}
