package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// QueryTimeout is how long a statement may take. What takes longer by its nature, such
// as waiting for a lock or a migration, asks for more with Patient.
const QueryTimeout = 20 * time.Second

type (
	patientKey struct{}
	cancelKey  struct{}
)

// Patient lets the statements that are run with ctx take as long as they take.
func Patient(ctx context.Context) context.Context {
	return context.WithValue(ctx, patientKey{}, true)
}

// bound gives every statement a deadline. A connection on which a statement ran into it
// is closed by the driver.
type bound struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (bound) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(patientKey{}) != nil {
		return ctx
	}
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	return context.WithValue(ctx, cancelKey{}, cancel)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (bound) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc); ok {
		cancel()
	}
}
