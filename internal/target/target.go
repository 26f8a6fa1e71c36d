package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	dialTimeout = 5 * time.Second
	ioTimeout   = 10 * time.Second
)

// Target is one server, by the name that sinks use for it.
type Target struct {
	Name string
	opts *redis.Options
	// shared serves everything that is not fenced: probes, scans, comparisons.
	shared *redis.Client
	// turn is held by the one lane of this worker that claims its keys.
	turn sync.Mutex
}

// Parse reads a redis:// or rediss:// URL. It does not connect.
func Parse(name, url string) (*Target, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		// The error of a URL that cannot be parsed repeats it, password and all.
		return nil, fmt.Errorf("target %s: its URL cannot be read; it should look like redis://user:password@host:6379/0", name)
	}
	opts.ClientName = "freshet"
	opts.DialTimeout = dialTimeout
	opts.ReadTimeout = ioTimeout
	opts.WriteTimeout = ioTimeout
	opts.ContextTimeoutEnabled = true
	opts.Protocol = 2
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	shared := *opts
	return &Target{Name: name, opts: opts, shared: redis.NewClient(&shared)}, nil
}

// Addr is host:port, for messages.
func (t *Target) Addr() string { return t.opts.Addr }

// Shared is a client for reads and for writes that need no fence.
func (t *Target) Shared() *redis.Client { return t.shared }

// Alone runs f while nobody else of this worker does, for what would only get into each
// other's way.
func (t *Target) Alone(f func() error) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	return f()
}

// Close ends the shared client's connections.
func (t *Target) Close() error { return t.shared.Close() }

// ErrConnectionLost is returned when a Single's only connection is gone.
var ErrConnectionLost = errors.New("the connection to Redis is gone")

// Single makes a client that dials once in its life. What a WATCH protects is bound
// to a connection: a client that silently dialled again would send the EXEC without
// it. Nothing is retried.
func (t *Target) Single() *redis.Client {
	opts := *t.opts
	opts.PoolSize = 1
	opts.MaxActiveConns = 1
	opts.PipelinePoolSize = -1
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.MinIdleConns = 0
	opts.ConnMaxIdleTime = -1
	opts.ConnMaxLifetime = -1
	opts.WriteBufferSize = 128 << 10
	dial := redis.NewDialer(&opts)
	var dialled atomic.Bool
	opts.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, ErrConnectionLost
		}
		return dial(ctx, network, addr)
	}
	return redis.NewClient(&opts)
}

// Check connects and makes sure that the server can do what Freshet needs: run MULTI
// as a transaction, and not be a cluster.
func (t *Target) Check(ctx context.Context) error {
	client := t.Single()
	defer client.Close()
	conn := client.Conn()
	defer conn.Close()

	if err := conn.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("target %s (%s): %w", t.Name, t.Addr(), err)
	}
	// A server without the section, or without INFO, is not a cluster.
	if info, err := conn.Info(ctx, "cluster").Result(); err == nil && strings.Contains(info, "cluster_enabled:1") {
		return fmt.Errorf("target %s (%s): it is a Redis Cluster, which Freshet does not write to yet: use a server with cluster mode disabled (%w)", t.Name, t.Addr(), ErrUnsuitable)
	}

	// Some proxies accept MULTI and run what follows at once: then the fence would
	// guard nothing.
	pipe := conn.Pipeline()
	multi, inner, exec := pipe.Do(ctx, "multi"), pipe.Do(ctx, "ping"), pipe.Do(ctx, "exec")
	_, err := pipe.Exec(ctx)
	if err == nil {
		queued, _ := inner.Val().(string)
		replies, ok := exec.Val().([]any)
		if multi.Err() == nil && queued == "QUEUED" && ok && len(replies) == 1 {
			return nil
		}
	}
	return fmt.Errorf("target %s (%s): it does not run MULTI … EXEC as a transaction, which Freshet's writes depend on: %w", t.Name, t.Addr(), errors.Join(err, ErrUnsuitable))
}

// ErrUnsuitable is in the chain of errors that no waiting mends.
var ErrUnsuitable = errors.New("unsuitable server")
