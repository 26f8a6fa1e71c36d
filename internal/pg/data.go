package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// DataError is what an expression raised over the data that a query read: a division by
// zero, a text that is no number, an exception of a function. Another row may do without
// it. Errors that a statement raises before it is run are not among them.
type DataError struct {
	*pgconn.PgError
}

// Unwrap returns the server's error.
func (e *DataError) Unwrap() error { return e.PgError }

// IsData reports whether err is a DataError.
func IsData(err error) bool {
	var data *DataError
	return errors.As(err, &data)
}

// TypeError is returned instead of values of another type than was expected.
type TypeError struct {
	// Was and Is are OIDs of types.
	Was, Is uint32
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("the value is of another type than it was (OID %d, and now %d)", e.Was, e.Is)
}

// IsType reports whether err is a TypeError.
func IsType(err error) bool {
	var other *TypeError
	return errors.As(err, &other)
}

// IsUnrecorded reports whether err is that of freshet.check_partitions.
func IsUnrecorded(err error) bool { return HasCode(err, "FR001") }

// TookTooLong reports whether err is that of a read which was given up after its time, and not of waiting for a connection to read over.
func TookTooLong(err error) bool {
	var before waited
	if errors.As(err, &before) {
		return false
	}
	return HasCode(err, "57014") || errors.Is(err, context.DeadlineExceeded)
}

// IsLocked reports whether err is that a lock was not to be had in time.
func IsLocked(err error) bool { return HasCode(err, "55P03") }

// HasCode reports whether err is one of Postgres' with one of these SQLSTATEs.
func HasCode(err error, codes ...string) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && slices.Contains(codes, reply.Code)
}

// ofData tells the errors that a value can be to blame for from those that concern the
// whole statement: a right that was revoked, a column that is gone, a lock, a timeout, a
// connection.
func ofData(code string) bool {
	switch code {
	case "P0001", // raised by a function
		"P0002", "P0003", "21000", // a row was expected, or one only: of a table that is looked up, as a rule
		"54000": // a value is larger than Postgres can make or send
		return true
	}
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23")
}
