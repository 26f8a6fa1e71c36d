package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/render"
)

// floor is the least that warming takes in Go: COPY in binary, JSON, an MSET of 1,000. No
// fence, no validation, nothing that could go on after a crash. Rows with columns only go as
// far as the JSON.
type floor struct {
	object *render.Object
	client *redis.Client // nil: render and throw away
	table  string
	all    bool // keep the rows as they come, and do not even render

	ctx     context.Context
	arena   []byte
	offsets []int // of keys and values in turn
	values  [][]byte
	rows    int
}

const floorBatch = 1000

// Write gets one message of the COPY stream, which is one row.
func (f *floor) Write(message []byte) (int, error) {
	n := len(message)
	if header := []byte("PGCOPY\n\xff\r\n\x00"); bytes.HasPrefix(message, header) {
		message = message[len(header)+8:]
	}
	if len(message) < 2 || int16(binary.BigEndian.Uint16(message)) < 0 {
		return n, nil // the end
	}
	f.values = f.values[:0]
	fields := int(binary.BigEndian.Uint16(message))
	message = message[2:]
	for range fields {
		size := int32(binary.BigEndian.Uint32(message))
		message = message[4:]
		if size < 0 {
			f.values = append(f.values, nil)
			continue
		}
		f.values, message = append(f.values, message[:size]), message[size:]
	}
	f.rows++
	if f.all {
		return n, nil
	}
	f.offsets = append(f.offsets, len(f.arena))
	f.arena = append(append(f.arena, f.table...), ':')
	f.arena = strconv.AppendInt(f.arena, int64(binary.BigEndian.Uint64(f.values[0])), 10)
	f.offsets = append(f.offsets, len(f.arena))
	var err error
	if f.arena, err = f.object.Append(f.arena, f.values); err != nil {
		return 0, err
	}
	if len(f.offsets) >= 2*floorBatch {
		return n, f.flush()
	}
	return n, nil
}

func (f *floor) flush() error {
	if f.client != nil && len(f.offsets) > 0 {
		args := make([]any, 1, 1+len(f.offsets))
		args[0] = "mset"
		for i, from := range f.offsets {
			to := len(f.arena)
			if i+1 < len(f.offsets) {
				to = f.offsets[i+1]
			}
			args = append(args, f.arena[from:to])
		}
		if err := f.client.Do(f.ctx, args...).Err(); err != nil {
			return err
		}
	}
	f.arena, f.offsets = f.arena[:0], f.offsets[:0]
	return nil
}

// floor runs the bare loop over a table and returns rows a second.
func (s *stage) floor(ctx context.Context, table string, f *floor) (float64, error) {
	columns, err := s.columns(ctx, table)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	f.ctx, f.table, f.object = ctx, table, render.NewObject(columns)
	for _, pin := range []string{"set timezone = 'UTC'", "set datestyle = 'ISO'"} {
		if _, err := conn.Exec(ctx, pin); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	if _, err := conn.PgConn().CopyTo(ctx, f, fmt.Sprintf("copy (select * from %s order by id) to stdout (format binary)", table)); err != nil {
		return 0, err
	}
	if err := f.flush(); err != nil {
		return 0, err
	}
	return float64(f.rows) / time.Since(begin).Seconds(), nil
}

// pipe has psql render protocol and redis-cli load it, as one does by hand, and returns rows
// a second.
func (s *stage) pipe(ctx context.Context, table string, rows int) (float64, error) {
	for _, program := range []string{"psql", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			return 0, fmt.Errorf("the baseline needs %s: %w", program, err)
		}
	}
	protocol := fmt.Sprintf(`select E'*3\r\n$3\r\nSET\r\n$' || octet_length(k) || E'\r\n' || k || E'\r\n$' || octet_length(v) || E'\r\n' || v || E'\r'
		from (select '%[1]s:' || id as k, row_to_json(r)::text as v from %[1]s r) x`, table)
	psql := exec.CommandContext(ctx, "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=FETCH_COUNT=10000", "--command="+protocol, s.databaseURL)
	load := exec.CommandContext(ctx, "redis-cli", "-u", s.redis.URL(), "--pipe")
	var said, complaint bytes.Buffer
	psql.Stderr, load.Stdout, load.Stderr = &complaint, &said, &said
	var err error
	if load.Stdin, err = psql.StdoutPipe(); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := load.Start(); err != nil {
		return 0, err
	}
	err = psql.Run()
	err = errors.Join(err, load.Wait())
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("psql | redis-cli --pipe: %w: %s%s", err, complaint.String(), said.String())
	}
	if want := fmt.Sprintf("errors: 0, replies: %d", rows); !bytes.Contains(said.Bytes(), []byte(want)) {
		return 0, fmt.Errorf("psql | redis-cli --pipe: want %q, got %s", want, said.String())
	}
	return float64(rows) / took.Seconds(), nil
}
