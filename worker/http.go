package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/lease"
)

// ErrListen is in the chain when HTTPAddr cannot be listened on.
var ErrListen = errors.New("cannot serve health and metrics")

// watch makes what answers about the worker. It goes by pools and targets as they are
// now: whoever serves Handler may ask while the worker closes, and gets an error.
func (w *Worker) watch() {
	control := w.control
	w.keeper = lease.NewKeeper(control, w.id, w.config.targetNames(), w.transforms, w.metrics, w.config.Logger.With("worker", w.id))
	w.metrics.Watch(control, w.keeper, string(catalog.Sync), string(catalog.Backfill), string(catalog.Sweep), string(catalog.Purge))

	needs := []health.Need{{Name: "Postgres", Ask: control.Ping}}
	for _, name := range w.config.targetNames() {
		shared := w.targets[name].Shared()
		needs = append(needs, health.Need{Name: "target " + name, Ask: func(ctx context.Context) error { return shared.Ping(ctx).Err() }})
	}
	needs = append(needs, health.Need{Name: "heartbeat", Ask: w.keeper.Recent})
	w.monitor = health.NewMonitor(needs...)
}

// Handler serves three pages. /healthz answers 200 as long as the worker's own loops go
// round, whatever is away. /readyz answers 200 when the worker works, Postgres and every
// target answer and the heartbeat is recent, else 503 with a line for each reason. /metrics
// is for Prometheus. To mount it under a path, use [http.StripPrefix]. Nothing in it is
// secret, but nobody is asked who they are.
func (w *Worker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", w.monitor.Live)
	mux.HandleFunc("GET /readyz", w.monitor.Ready)
	mux.Handle("GET /metrics", w.metrics.Handler())
	return mux
}

// HTTPAddr is where the worker listens, with the port that was chosen if its Config said
// 0; empty if it does not listen.
func (w *Worker) HTTPAddr() string {
	if w.server == nil {
		return ""
	}
	return w.server.addr
}

// server is the worker's own. All of its methods may be called on nil.
type server struct {
	http *http.Server
	addr string
	done chan error
}

const (
	headerTimeout = 5 * time.Second
	// answerTimeout is more than any page takes.
	answerTimeout = 30 * time.Second
	// closeTimeout is for answers that are under way when the worker ends.
	closeTimeout = 500 * time.Millisecond
)

// listen begins to serve if the worker is to.
func (w *Worker) listen() error {
	if w.config.HTTPAddr == "" {
		return nil
	}
	l, err := net.Listen("tcp", w.config.HTTPAddr)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrListen, err)
	}
	s := &server{
		http: &http.Server{
			Handler: w.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: answerTimeout,
			ErrorLog: slog.NewLogLogger(w.config.Logger.Handler(), slog.LevelDebug),
		},
		addr: l.Addr().String(),
		done: make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(l) }()
	w.server = s
	w.config.Logger.Info("serving health and metrics", "addr", s.addr)
	return nil
}

// close stops serving and waits for it.
func (s *server) close() error {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	s.done <- http.ErrServerClosed // for who closes again
	return err
}
