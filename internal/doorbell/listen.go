package doorbell

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// refuse answers requests when there is no connection to arm with.
func (b *Bell) refuse(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-b.requests:
			if r.done != nil {
				r.done <- false
			}
		}
	}
}

func (b *Bell) refuseFor(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b.refuse(ctx)
}

// listen owns the listening connection until it fails.
func (b *Bell) listen(ctx context.Context) error {
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer func() {
		b.mu.Lock()
		clear(b.armed) // the locks went with the session
		for source := range b.kept {
			b.unkeep(source)
		}
		b.interrupt = nil
		// Whoever sleeps relies on a bell that is gone.
		for _, s := range b.sleepers {
			s.Ring()
		}
		b.mu.Unlock()
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	b.trouble.Note(nil)
	for {
		waitCtx, cancel := context.WithCancel(ctx)
		b.mu.Lock()
		b.interrupt = cancel
		b.mu.Unlock()
		// A request that came before interrupt was set has not been served yet.
		if err := b.serve(ctx, conn); err != nil {
			cancel()
			return err
		}
		notification, err := conn.WaitForNotification(waitCtx)
		cancel()
		switch {
		case err == nil:
			source, convErr := strconv.ParseInt(notification.Payload, 10, 32)
			if convErr != nil {
				continue
			}
			if err := unlock(ctx, conn, int32(source), b.rung(int32(source))); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case conn.IsClosed():
			return err
		case errors.Is(err, context.Canceled):
			// interrupted for a request
		default:
			return err
		}
	}
}

// serve answers the requests that are waiting.
func (b *Bell) serve(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case r := <-b.requests:
			if r.disarm {
				if err := unlock(ctx, conn, r.source, b.release(r.source)); err != nil {
					return err
				}
				continue
			}
			armed, err := b.lock(ctx, conn, r.source)
			r.done <- armed
			if err != nil {
				return err
			}
		default:
			return nil
		}
	}
}
