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

// bound gives every statement a deadline, and tells the pool's observer what went wrong.
// A connection on which a statement ran into its deadline is closed by the driver.
type bound struct {
	observe func(error)
}

// TraceQueryStart implements pgx.QueryTracer.
func (bound) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(patientKey{}) != nil {
		return ctx
	}
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	return context.WithValue(ctx, cancelKey{}, cancel)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b bound) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc); ok {
		cancel()
	}
	b.saw(data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (bound) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer. What fails here fails the whole batch.
func (bound) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (b bound) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	b.saw(data.Err)
}

// TraceConnectStart implements pgx.ConnectTracer.
func (bound) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

// TraceConnectEnd implements pgx.ConnectTracer.
func (b bound) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) { b.saw(data.Err) }

func (b bound) saw(err error) {
	if err != nil && b.observe != nil {
		b.observe(err)
	}
}

// observed tells the observer of a connection's pool of an error that no tracer sees.
func observed(conn *pgx.Conn, err error) {
	if b, ok := conn.Config().Tracer.(bound); ok {
		b.saw(err)
	}
}
