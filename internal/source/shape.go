package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/render"
	"github.com/freshet/freshet/internal/transform"
)

// shape makes the value of an entry.
type shape interface {
	// Select lists the SQL expressions that it reads, given the alias of the source.
	Select(alias string) []string
	// Append appends the value that what Postgres sent for these makes under a key, read at
	// that moment. It returns false if there is to be no entry. An error of the row alone is
	// a [*transform.Error].
	Append(ctx context.Context, dst, key []byte, values [][]byte, at time.Time) (out []byte, present bool, err error)
}

func newShape(sink *catalog.Sink, functions *transform.Registry) (shape, error) {
	switch {
	case sink.Value != "":
		return newExpression(sink.Value, sink.ValueType), nil
	case sink.Transform != "":
		t, err := functions.New(sink.Transform, sink.Columns, sink.Name)
		if err != nil {
			return nil, fmt.Errorf("transform: %w", err)
		}
		return t, nil
	}
	return columns{render.NewObject(sink.Columns)}, nil
}

// columns are a JSON object.
type columns struct{ *render.Object }

func (c columns) Append(_ context.Context, dst, _ []byte, values [][]byte, _ time.Time) ([]byte, bool, error) {
	out, err := c.Object.Append(dst, values)
	return out, true, err
}

// expression is an SQL expression that Postgres evaluates.
type expression struct {
	sql string
	// versioned: a byte stands before it that says of which version its binary form is.
	versioned bool
}

// sentType is the type of what Postgres sends for a sink's value, 0 where it is columns.
func sentType(sink *catalog.Sink) uint32 {
	switch {
	case sink.Value == "":
		return 0
	case sentAsIs(sink.ValueType):
		return sink.ValueType
	}
	return pgtype.TextOID
}

func sentAsIs(oid uint32) bool {
	return oid == pgtype.ByteaOID || oid == pgtype.JSONOID || oid == pgtype.JSONBOID || oid == pgtype.TextOID
}

func newExpression(sql string, oid uint32) expression {
	// The line breaks end a comment in it.
	e := expression{sql: "((\n" + sql + "\n))", versioned: oid == pgtype.JSONBOID}
	if !sentAsIs(oid) {
		e.sql += "::pg_catalog.text"
	}
	return e
}

func (e expression) Select(string) []string { return []string{e.sql} }

func (e expression) Append(_ context.Context, dst, _ []byte, values [][]byte, _ time.Time) ([]byte, bool, error) {
	v := values[0]
	if v == nil {
		return dst, false, nil
	}
	if e.versioned {
		if len(v) == 0 || v[0] != 1 {
			return dst, false, errors.New("unknown version of binary jsonb")
		}
		v = v[1:]
	}
	return append(dst, v...), true, nil
}

// epoch is 2000-01-01, from which Postgres counts, in milliseconds since 1970.
const epoch = 946684800000

// moment is a timestamptz in milliseconds since 1970; 0 for null and for infinity.
func moment(v []byte) (int64, error) {
	if v == nil {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, errors.New("unexpected length of a binary timestamptz")
	}
	us := int64(binary.BigEndian.Uint64(v))
	switch us {
	case math.MaxInt64:
		return 0, nil
	case math.MinInt64:
		return -1, nil
	}
	// 1970 is as long ago as the year before, and 0 is taken.
	if ms := us/1000 + epoch; ms > 0 {
		return ms, nil
	}
	return -1, nil
}
