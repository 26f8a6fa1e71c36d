package pg

import (
	"errors"
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

// IsLocked reports whether err is that a lock was not to be had in time.
func IsLocked(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && reply.Code == "55P03"
}

// ofData tells the errors that a value can be to blame for from those that concern the
// whole statement: a right that was revoked, a column that is gone, a lock, a timeout, a
// connection.
func ofData(code string) bool {
	switch code {
	case "P0001", // raised by a function
		"54000": // a value is larger than Postgres can make or send
		return true
	}
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23")
}
