package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// bulk is a statement that writes many rows. What comes before and after makes room for it to be repeated, and is not
// measured. Of the formats' arguments the first is the table, the others are the first id and the last of rows that are not there.
type bulk struct {
	name   string
	tables []string
	// commit is synchronous_commit.
	commit             string
	before, sql, after string
	most               float64
}

// bulkRepeats is how often a statement is measured in a round on each table, of which the median counts. They take turns: how fast
// a machine is that one has a part of changes from second to second.
const bulkRepeats = 5

const (
	bulkUpdate = "update %[1]s set balance = balance + 1"
	bulkInsert = "insert into %[1]s select g, 1, 1 from generate_series(%[2]d, %[3]d) g"
	bulkDelete = "delete from %[1]s where id between %[2]d and %[3]d"
	bulkCopy   = "copy %[1]s (id, branch, balance) from program 'seq -f \"%%.0f\t1\t1\" %[2]d %[3]d'"
)

var bulks = []bulk{
	{name: "update", tables: allTables, commit: "on", sql: bulkUpdate, most: 1.4},
	{name: "update_async", tables: allTables, commit: "off", sql: bulkUpdate, most: 1.4},
	{name: "insert", tables: overheadTables, commit: "on", sql: bulkInsert, after: bulkDelete},
	{name: "insert_async", tables: overheadTables, commit: "off", sql: bulkInsert, after: bulkDelete},
	{name: "delete", tables: overheadTables, commit: "on", before: bulkInsert, sql: bulkDelete},
	{name: "delete_async", tables: overheadTables, commit: "off", before: bulkInsert, sql: bulkDelete},
	{name: "copy", tables: overheadTables, commit: "on", sql: bulkCopy, after: bulkDelete},
	{name: "copy_async", tables: overheadTables, commit: "off", sql: bulkCopy, after: bulkDelete},
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
			took, err := s.bulk(ctx, conn, k, rows, bulkRepeats*(round*len(bulks)+i))
			if err != nil {
				return nil, err
			}
			for table, v := range took {
				measured.add(i, table, v.median())
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
		name := "overhead_bulk_" + k.name
		list = append(list, measured.results(i, name, "ms", target, met)...)
		if without := measured[i][compared]; without != nil {
			list = append(list, without.beside(name+"_compared", "ms", "keys compared and nothing written, without capture", measured[i][bare], "", nil))
		}
	}
	return list, nil
}

// bulk repeats one statement on each table and returns how long it took, in milliseconds. used is how often ids were taken before.
func (s *stage) bulk(ctx context.Context, conn *pgx.Conn, k bulk, rows, used int) (map[string]series, error) {
	run := func(sql string) error {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		return nil
	}
	if err := errors.Join(run("set synchronous_commit = "+k.commit), run("checkpoint")); err != nil {
		return nil, err
	}
	took := make(map[string]series)
	for n := used; n < used+bulkRepeats; n++ {
		// Each time in another order, and behind another one every second time.
		tables := slices.Clone(k.tables)
		if n%2 == 1 {
			slices.Reverse(tables)
		}
		for i := range tables {
			table := tables[(i+n)%len(tables)]
			on := func(format string) error {
				if format == "" {
					return nil
				}
				return run(fmt.Sprintf(format, table, (1+n)*rows+1, (2+n)*rows))
			}
			if err := on(k.before); err != nil {
				return nil, err
			}
			if err := s.fresh(ctx, table); err != nil {
				return nil, err
			}
			begin := time.Now()
			if err := on(k.sql); err != nil {
				return nil, err
			}
			took[table] = append(took[table], milliseconds(time.Since(begin)))
			if err := on(k.after); err != nil {
				return nil, err
			}
		}
	}
	return took, nil
}
