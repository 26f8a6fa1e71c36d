package pg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	begin  = "begin transaction isolation level read committed read only"
	commit = "commit"
)

// pins are set for the transaction only, never for the session: behind a pooler the
// session belongs to others too. Whatever a worker's URL, environment, role or database
// say, the same rows render the same bytes.
//
// From TimeZone to quote_all_identifiers stands everything that the text of a value
// depends on, and what to_char and the like make of it. Money is printed as under C, $1,234.50, which takes two decimals for
// granted: it has to be one form, for it may be a part of a key, and no locale but C is
// on every server. Names of tables, functions and types (regclass and so on) are
// printed as the search path has it: without a schema in pg_catalog, the source's
// schema and public.
//
// To set timezone_abbreviations reads a file, and costs several times as much as all others together: it is
// left where it is already what it should be.
//
// From array_nulls to transform_null_equals stands what literals and comparisons in a
// filter mean.
//
// row_security = off turns rows that a policy hides into an error; hidden rows would
// look like deleted ones. It is on for a query that itself makes sure that nothing is
// hidden. The planner settings keep a plan that was prepared on an
// empty table from scanning a grown one: every read here is by index.
const pins = `select pg_catalog.concat(pg_catalog.set_config('search_path', $1, true),
pg_catalog.set_config('row_security', $2, true),
pg_catalog.set_config('TimeZone', 'UTC', true),
pg_catalog.set_config('DateStyle', 'ISO, YMD', true),
pg_catalog.set_config('IntervalStyle', 'postgres', true),
pg_catalog.set_config('bytea_output', 'hex', true),
pg_catalog.set_config('extra_float_digits', '1', true),
pg_catalog.set_config('lc_monetary', 'C', true),
pg_catalog.set_config('lc_numeric', 'C', true),
pg_catalog.set_config('lc_time', 'C', true),
case when pg_catalog.current_setting('timezone_abbreviations') <> 'Default' then pg_catalog.set_config('timezone_abbreviations', 'Default', true) end,
pg_catalog.set_config('xmlbinary', 'base64', true),
pg_catalog.set_config('quote_all_identifiers', 'off', true),
pg_catalog.set_config('array_nulls', 'on', true),
pg_catalog.set_config('standard_conforming_strings', 'on', true),
pg_catalog.set_config('xmloption', 'content', true),
pg_catalog.set_config('transform_null_equals', 'off', true),
pg_catalog.set_config('enable_seqscan', 'off', true),
pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true),
pg_catalog.set_config('jit', 'off', true),
pg_catalog.set_config('statement_timeout', '30s', true))`

const (
	// readTimeout is for a connection that hangs, where the server's own timeout is not heard.
	readTimeout = 40 * time.Second
	// freeTimeout is how long a read waits for a connection that others read over.
	freeTimeout = time.Minute
)

// Query is a statement with its place to run.
type Query struct {
	// SearchPath for expressions of the user's, such as a filter.
	SearchPath string
	// RowSecurity is to be let through by policies; the statement must see to it that
	// they hide nothing.
	RowSecurity bool
	// Version is another where what the names in SQL stand for can have come to be another: what was
	// prepared goes on calling the functions it has found.
	Version int32
	SQL     string
	// Type is that of the column number Column, from 0, if it is not 0; a query that has come
	// to return another is not run, and the error is a [TypeError].
	Type   uint32
	Column int
}

// Prepared is a query with the name under which connections keep it prepared.
type Prepared struct {
	Query
	name string
}

// Named gives q its name.
func (q Query) Named() Prepared {
	// With the type: what one reader was content with another may not be.
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d %d %d\n%s", q.SearchPath, q.Type, q.Column, q.Version, q.SQL))
	return Prepared{q, "freshet_" + hex.EncodeToString(sum[:8])}
}

// What every read begins and ends with.
var (
	beginning  = Query{SQL: begin}.Named()
	pinning    = Query{SQL: pins}.Named()
	committing = Query{SQL: commit}.Named()
)

// Read runs q in one round trip and calls row for each row with its values in binary
// form, valid during the call only. Parameters are in text form, nil is null. After
// an error the connection is closed: it may be inside a failed transaction, or hold
// a plan from before the table was altered. Only a [DataError] leaves it as it was, for whoever
// looks for the row that raises one gets many of them, and what IsUnrecorded tells.
func Read(ctx context.Context, pool *pgxpool.Pool, q Prepared, params [][]byte, row func(values [][]byte) error) (err error) {
	conn, err := acquire(ctx, pool, freeTimeout)
	if err != nil {
		return err
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer func() {
		if err == nil {
			return
		}
		if !IsUnrecorded(err) {
			observed(conn.Conn(), err)
		}
		if IsData(err) || IsUnrecorded(err) {
			if _, rollbackErr := conn.Conn().PgConn().Exec(ctx, "rollback").ReadAll(); rollbackErr == nil {
				return
			}
		}
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Conn().Close(closeCtx)
	}()

	if err := prepare(ctx, conn.Conn(), q); err != nil {
		return err
	}
	pipe := conn.Conn().PgConn().StartPipeline(ctx)
	pipe.SendQueryPrepared(beginning.name, nil, nil, nil)
	pipe.SendQueryPrepared(pinning.name, q.pinned(), nil, nil)
	pipe.SendQueryPrepared(q.name, params, nil, binary)
	pipe.SendQueryPrepared(committing.name, nil, nil, nil)
	err = errors.Join(pipe.Sync(), results(pipe, row))
	if closeErr := pipe.Close(); err == nil {
		err = closeErr
	}
	return err
}

// waited is the error of waiting for a connection, for which a read is not to blame.
type waited struct{ error }

func (w waited) Unwrap() error { return w.error }

// acquire waits for a connection, at most so long.
func acquire(ctx context.Context, pool *pgxpool.Pool, patience time.Duration) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pool.Acquire(waiting)
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	if now := pool.Stat(); waiting.Err() != nil && now.AcquiredConns()+now.ConstructingConns() >= now.MaxConns() {
		err = fmt.Errorf("none of %d connections to Postgres was free for %s: %w", now.MaxConns(), patience, err)
	}
	return nil, waited{err}
}

// pinned are the parameters of pins.
func (q Query) pinned() [][]byte {
	rowSecurity := "off"
	if q.RowSecurity {
		rowSecurity = "on"
	}
	return [][]byte{[]byte(q.SearchPath), []byte(rowSecurity)}
}

// prepare prepares q, once for each connection. It is done under the pins: preparing is
// when names are looked up and literals get their value, so outside a filter would miss
// functions of the source's schema, and a timestamp in it would be in the session's
// time zone.
func prepare(ctx context.Context, conn *pgx.Conn, q Prepared) error {
	prepared := conn.PgConn().CustomData()
	if prepared[q.name] != nil {
		return nil
	}
	for _, always := range []Prepared{beginning, pinning, committing} {
		if _, err := conn.Prepare(ctx, always.name, always.SQL); err != nil {
			return err
		}
	}
	if _, err := conn.PgConn().Exec(ctx, begin).ReadAll(); err != nil {
		return err
	}
	if err := conn.PgConn().ExecPrepared(ctx, pinning.name, q.pinned(), nil, nil).Read().Err; err != nil {
		return err
	}
	made, err := conn.Prepare(ctx, q.name, q.SQL)
	if err != nil {
		return err
	}
	// Whatever changes the type later makes the prepared statement fail.
	if q.Type != 0 && made.Fields[q.Column].DataTypeOID != q.Type {
		return &TypeError{Was: q.Type, Is: made.Fields[q.Column].DataTypeOID}
	}
	// What is prepared stays when the transaction ends.
	if _, err := conn.PgConn().Exec(ctx, commit).ReadAll(); err != nil {
		return err
	}
	prepared[q.name] = true
	return nil
}

var binary = []int16{1}

// results reads the replies of the four statements; the third one's rows are wanted.
func results(pipe *pgconn.Pipeline, row func([][]byte) error) error {
	for i := range 4 {
		result, err := pipe.GetResults()
		if err != nil {
			return raised(i, err)
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
			return raised(i, err)
		}
	}
	return nil
}

// raised is an error of the nth statement.
func raised(n int, err error) error {
	var pgErr *pgconn.PgError
	if n == 2 && errors.As(err, &pgErr) && ofData(pgErr.Code) {
		return &DataError{pgErr}
	}
	return err
}
