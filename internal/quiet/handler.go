package quiet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// pause is how long a message is not repeated for.
const pause = time.Minute

// mostHeard is how many different messages there are in that time.
const mostHeard = 200

// Handler lets each message through once a minute for each error that it has among its attributes. It is
// for a library's log, whose many parts say the same for as long as a server is away.
func Handler(h slog.Handler) slog.Handler {
	return handler{h, &heard{at: make(map[string]time.Time)}}
}

type handler struct {
	slog.Handler
	heard *heard
}

// heard is when which messages were let through last, by all handlers that were made of one.
type heard struct {
	mu sync.Mutex
	at map[string]time.Time
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	message := r.Level.String() + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if err, is := a.Value.Any().(error); is {
			message += "\n" + shape(err.Error())
		} else if a.Key == "err" || a.Key == "error" {
			message += "\n" + shape(a.Value.String())
		}
		return true
	})
	if !h.heard.pass(message) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *heard) pass(message string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for m, at := range h.at {
		if now.Sub(at) >= pause {
			delete(h.at, m)
		}
	}
	if _, is := h.at[message]; is || len(h.at) >= mostHeard {
		return false
	}
	h.at[message] = now
	return true
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.heard}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.heard}
}
