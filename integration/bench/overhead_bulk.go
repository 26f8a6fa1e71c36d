package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// bulk is a statement that writes many rows. What comes before and after makes room for it to be repeated, and is not
// measured. Of the formats' arguments the first is the table, the others are the first id and the last of rows that are not there.
type bulk struct {
	name string
	// commit is synchronous_commit.
	commit             string
	before, sql, after string
	most               float64
}

// bulkRepeats is how often a statement is measured in a round, of which the median counts.
const bulkRepeats = 3

const (
	bulkUpdate = "update %[1]s set balance = balance + 1"
	bulkInsert = "insert into %[1]s select g, 1, 1 from generate_series(%[2]d, %[3]d) g"
	bulkDelete = "delete from %[1]s where id between %[2]d and %[3]d"
	bulkCopy   = "copy %[1]s (id, branch, balance) from program 'seq -f \"%%.0f\t1\t1\" %[2]d %[3]d'"
)

var bulks = []bulk{
	{name: "update", commit: "on", sql: bulkUpdate, most: 1.4},
	{name: "update_async", commit: "off", sql: bulkUpdate, most: 1.4},
	{name: "insert", commit: "on", sql: bulkInsert, after: bulkDelete},
	{name: "delete", commit: "on", before: bulkInsert, sql: bulkDelete},
	{name: "copy", commit: "on", sql: bulkCopy, after: bulkDelete},
}

// overheadBulk writes many rows in one statement with capture and without.
func overheadBulk(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(overheadRows)
	if err := s.makeOverhead(ctx, rows); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	measured := make(overheads, len(bulks))
	for round := range s.rounds {
		for n := range bulks {
			// Each time in another order.
			i := (n + round) % len(bulks)
			k := bulks[i]
			if err := measured.inTurn(round, i, func(table string) (float64, error) {
				return s.bulk(ctx, conn, k, table, rows, bulkRepeats*(round*len(bulks)+i))
			}); err != nil {
				return nil, err
			}
			s.say("  round %d, %s: %s", round+1, k.name, measured.said(round, i, " ms"))
		}
		if err := s.trim(ctx, rows); err != nil {
			return nil, err
		}
	}
	var list []result
	for i, k := range bulks {
		target, met := most(k.most)
		if k.most == 0 {
			met = nil
		}
		list = append(list, measured.results(i, "overhead_bulk_"+k.name, "ms", target, met)...)
	}
	return list, nil
}

// bulk repeats one statement on one table and returns the median, in milliseconds. used is how often ids were taken before.
func (s *stage) bulk(ctx context.Context, conn *pgx.Conn, k bulk, table string, rows, used int) (float64, error) {
	run := func(sql string) error {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		return nil
	}
	if err := errors.Join(run("set synchronous_commit = "+k.commit), run("checkpoint")); err != nil {
		return 0, err
	}
	var took series
	for n := used; n < used+bulkRepeats; n++ {
		on := func(format string) error {
			if format == "" {
				return nil
			}
			return run(fmt.Sprintf(format, table, (1+n)*rows+1, (2+n)*rows))
		}
		if err := on(k.before); err != nil {
			return 0, err
		}
		if err := s.fresh(ctx, table); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := on(k.sql); err != nil {
			return 0, err
		}
		took = append(took, milliseconds(time.Since(begin)))
		if err := on(k.after); err != nil {
			return 0, err
		}
	}
	return took.median(), nil
}
