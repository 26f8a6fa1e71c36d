package pg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const begin = "begin transaction isolation level read committed read only"

// pins are set for the transaction only, never for the session: behind a pooler the
// session belongs to others too.
//
// row_security = off turns rows that a policy hides into an error; hidden rows would
// look like deleted ones. It is on for a query that itself makes sure that nothing is
// hidden. The planner settings keep a plan that was prepared on an
// empty table from scanning a grown one: every read here is by index.
const pins = `select set_config('search_path', $1, true),
set_config('row_security', $2, true),
set_config('TimeZone', 'UTC', true),
set_config('DateStyle', 'ISO, YMD', true),
set_config('IntervalStyle', 'postgres', true),
set_config('bytea_output', 'hex', true),
set_config('extra_float_digits', '1', true),
set_config('enable_seqscan', 'off', true),
set_config('plan_cache_mode', 'force_generic_plan', true),
set_config('jit', 'off', true),
set_config('statement_timeout', '30s', true)`

// readTimeout is for a connection that hangs, where the server's own timeout is not heard.
const readTimeout = 40 * time.Second

// Query is a statement with its place to run.
type Query struct {
	// SearchPath for expressions of the user's, such as a filter.
	SearchPath string
	// RowSecurity is to be let through by policies; the statement must see to it that
	// they hide nothing.
	RowSecurity bool
	SQL         string
}

// name under which a connection keeps the statement prepared.
func name(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return "freshet_" + hex.EncodeToString(sum[:8])
}

// Read runs q in one round trip and calls row for each row with its values in binary
// form, valid during the call only. Parameters are in text form, nil is null. After
// an error the connection is closed: it may be inside a failed transaction, or hold
// a plan from before the table was altered.
func Read(ctx context.Context, pool *pgxpool.Pool, q Query, params [][]byte, row func(values [][]byte) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer func() {
		if err != nil {
			closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			_ = conn.Conn().Close(closeCtx)
		}
	}()

	for _, sql := range []string{pins, q.SQL} {
		if _, err := conn.Conn().Prepare(ctx, name(sql), sql); err != nil {
			return err
		}
	}
	pipe := conn.Conn().PgConn().StartPipeline(ctx)
	pipe.SendQueryParams(begin, nil, nil, nil, nil)
	pipe.SendQueryPrepared(name(pins), [][]byte{[]byte(q.SearchPath), rowSecurity(q)}, nil, nil)
	pipe.SendQueryPrepared(name(q.SQL), params, nil, binary)
	pipe.SendQueryParams("commit", nil, nil, nil, nil)
	err = errors.Join(pipe.Sync(), results(pipe, row))
	if closeErr := pipe.Close(); err == nil {
		err = closeErr
	}
	return err
}

func rowSecurity(q Query) []byte {
	if q.RowSecurity {
		return []byte("on")
	}
	return []byte("off")
}

var binary = []int16{1}

// results reads the replies of the four statements; the third one's rows are wanted.
func results(pipe *pgconn.Pipeline, row func([][]byte) error) error {
	for i := range 4 {
		result, err := pipe.GetResults()
		if err != nil {
			return err
		}
		reader, ok := result.(*pgconn.ResultReader)
		if !ok {
			return fmt.Errorf("unexpected reply %T", result)
		}
		for reader.NextRow() {
			if i != 2 {
				continue
			}
			if err := row(reader.Values()); err != nil {
				return err
			}
		}
		if _, err := reader.Close(); err != nil {
			return err
		}
	}
	return nil
}
