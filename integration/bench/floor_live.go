package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/render"
)

const (
	// liveReaders is how many connections read ahead, so that Postgres reads while rows are made JSON.
	liveReaders = 2
	// liveRange and liveKeys are how many rows they read at a time. Of so many keys, which Postgres looks up in order, some lie on one
	// page: with 5,000 of 200,000 it takes half as long again.
	liveRange = 10_000
	liveKeys  = 20_000
)

// liveFloor is the least that it takes in Go to refresh the entries of rows that somebody names: they are read, their columns are made
// JSON as the worker does it, and an MSET of 1,000 is written while the next is read. No cursor, no claim, no fence.
type liveFloor struct {
	object  *render.Object
	readers []*pgx.Conn
	client  *redis.Client
}

// named are rows to be refreshed: those of some keys or, where there are none, those from a key to another.
type named struct {
	keys     []int64
	from, to int64
}

// allRanges names all of so many rows from one key to another.
func allRanges(rows int) (all []named) {
	batch := min(liveRange, max(1, rows/8))
	for from := 1; from <= rows; from += batch {
		all = append(all, named{from: int64(from), to: int64(min(from+batch-1, rows))})
	}
	return all
}

// allKeys names all of so many rows by their keys, in the order that nth gives.
func allKeys(rows int, nth func(i int) int64) (all []named) {
	batch := min(liveKeys, max(1, rows/8))
	for from := 0; from < rows; from += batch {
		var some named
		for i := from; i < min(from+batch, rows); i++ {
			some.keys = append(some.keys, nth(i))
		}
		all = append(all, some)
	}
	return all
}

// refreshAll refreshes the rows that are named once they are changed, which t measures. What they are is known, and all is ready to begin.
func (s *stage) refreshAll(ctx context.Context, t *timing, all []named, change func() error) error {
	f, err := s.liveFloor(ctx)
	if err != nil {
		return err
	}
	defer f.close(ctx)
	if err := change(); err != nil {
		return err
	}
	return t.run(func() error { return f.refresh(ctx, all) })
}

// liveFloor is ready to begin: it has connected and prepared its statements.
func (s *stage) liveFloor(ctx context.Context) (f *liveFloor, err error) {
	columns, err := s.columns(ctx, "items")
	if err != nil {
		return nil, err
	}
	f = &liveFloor{object: render.NewObject(columns), client: s.client()}
	defer func() {
		if err != nil {
			f.close(ctx)
		}
	}()
	list := strings.Join(f.object.Select("items"), ", ")
	for range liveReaders {
		conn, err := pgx.Connect(ctx, s.databaseURL)
		if err != nil {
			return nil, err
		}
		f.readers = append(f.readers, conn)
		for name, where := range map[string]string{"keys": "id = any ($1::bigint[])", "range": "id between $1 and $2"} {
			if _, err := conn.Prepare(ctx, name, fmt.Sprintf("select id, %s from items where %s", list, where)); err != nil {
				return nil, err
			}
		}
	}
	return f, f.client.Ping(ctx).Err()
}

func (f *liveFloor) close(ctx context.Context) {
	for _, conn := range f.readers {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	_ = f.client.Close()
}

// refresh reads all rows that are named and sets their entries.
func (f *liveFloor) refresh(ctx context.Context, all []named) error {
	var (
		msets = make(chan []any, liveReaders)
		wrote = make(chan error, 1)
		next  atomic.Int64
	)
	readers, readCtx := errgroup.WithContext(ctx)
	go func() {
		var err error
		for args := range msets {
			if err == nil {
				err = f.client.Do(ctx, args...).Err()
			}
		}
		wrote <- err
	}()
	for _, conn := range f.readers {
		readers.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return nil
				}
				if err := f.read(readCtx, conn, all[i], msets); err != nil {
					return err
				}
			}
		})
	}
	err := readers.Wait()
	close(msets)
	return errors.Join(err, <-wrote)
}

// read makes MSETs of some rows.
func (f *liveFloor) read(ctx context.Context, conn *pgx.Conn, some named, msets chan<- []any) error {
	statement, args := "keys", []any{pgx.QueryResultFormats{pgx.BinaryFormatCode}, some.keys}
	if some.keys == nil {
		statement, args = "range", []any{args[0], some.from, some.to}
	}
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := newMset()
	for rows.Next() {
		values := rows.RawValues()
		begin := len(m.arena)
		m.arena = strconv.AppendUint(append(m.arena, "direct:"...), binary.BigEndian.Uint64(values[0]), 10)
		key := m.arena[begin:]
		begin = len(m.arena)
		if m.arena, err = f.object.Append(m.arena, values[1:]); err != nil {
			return err
		}
		if m.args = append(m.args, key, m.arena[begin:]); len(m.args) > 2*floorBatch {
			msets <- m.args
			m = newMset()
		}
	}
	if len(m.args) > 1 {
		msets <- m.args
	}
	return rows.Err()
}

// mset is a command in the making, and the memory that its arguments lie in.
type mset struct {
	args  []any
	arena []byte
}

func newMset() mset {
	return mset{args: append(make([]any, 0, 1+2*floorBatch), "mset"), arena: make([]byte, 0, 256*floorBatch)}
}
