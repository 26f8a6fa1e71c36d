package transform

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/render"
)

// MaxOutput is the most bytes that Append writes for an entry; a caller may allow fewer.
const MaxOutput = 128 << 20

// Transform makes values of rows. It is safe for concurrent use.
type Transform interface {
	// Columns are those that have to be selected.
	Columns() []render.Column
	// Select returns, for each of Columns, the SQL expression whose binary form Append reads. The alias must be a valid
	// SQL identifier already.
	Select(alias string) []string
	// Append appends the value of one row to dst. The values are what Postgres sent, in the order of Select; nil is
	// SQL null. They and the key are used during the call only. Now is the moment that the row was read. Without
	// present there is no entry, and with an error there is none either; out is dst then. An error of this row is
	// an [*Error].
	Append(ctx context.Context, dst, key []byte, values [][]byte, now time.Time) (out []byte, present bool, err error)
}

var (
	_ Transform = (*Program)(nil)
	_ Transform = (*Go)(nil)
)

// Error is what is wrong with an expression, or with the entry of one row.
type Error struct {
	// Message says it in words, without the place.
	Message string
	// Line and Column are the place in the expression, in characters from 1; 0 if there is none.
	Line, Column int
	cause        error
}

func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.Message
	case e.Line == 1:
		return fmt.Sprintf("%s (at character %d)", e.Message, e.Column)
	}
	return fmt.Sprintf("%s (at line %d, character %d)", e.Message, e.Line, e.Column)
}

// Unwrap is the error behind it, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// failure is what code inside of this package panics with; Compile and Append turn it into an Error.
type failure struct {
	// at is a place in the expression, in characters from 0; -1 if there is none.
	at      int
	message string
	cause   error
}

func failf(at int, format string, args ...any) {
	panic(&failure{at: at, message: fmt.Sprintf(format, args...)})
}

// in makes an error of it, with the place as line and column.
func (f *failure) in(source string) *Error {
	e := &Error{Message: f.message, cause: f.cause}
	if f.at < 0 {
		return e
	}
	e.Line, e.Column = 1, 1
	at := 0
	for _, c := range source {
		if at == f.at {
			break
		}
		at++
		e.Column++
		if c == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}

// defect is a fault of this program or of its caller, not of a row.
type defect struct{ err error }
