package target

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
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
	// mute: the server does not tell its settings.
	mute atomic.Bool
	// observe is told of every failed operation.
	observe func(error)
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// IsName reports whether a target can have this name: it may follow FRESHET_REDIS_URL_ in
// upper case, and stand among a sink's targets.
func IsName(name string) bool { return namePattern.MatchString(name) }

// Parse reads a redis:// or rediss:// URL. It does not connect. A TLS configuration, for a
// private CA or a client certificate, may be given with a rediss:// URL; nil takes the
// system's CAs.
func Parse(name, url string, encryption *tls.Config) (*Target, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		// The error of a URL that cannot be parsed repeats it, password and all.
		return nil, fmt.Errorf("target %s: its URL cannot be read; it should look like redis://user:password@host:6379/0", name)
	}
	if encryption != nil {
		if opts.TLSConfig == nil {
			return nil, fmt.Errorf("target %s: there are TLS settings for it, and its URL does not begin with rediss://", name)
		}
		merged := encryption.Clone()
		if merged.ServerName == "" {
			merged.ServerName = opts.TLSConfig.ServerName
		}
		merged.MinVersion = max(merged.MinVersion, opts.TLSConfig.MinVersion)
		merged.InsecureSkipVerify = merged.InsecureSkipVerify || opts.TLSConfig.InsecureSkipVerify
		opts.TLSConfig = merged
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

// Observe has f called with every error of an operation, from many goroutines. It is
// called before the target is used.
func (t *Target) Observe(f func(error)) {
	t.observe = f
	t.shared.AddHook(observer{f})
}

// Saw tells the observer of an error that is none of a single operation's, such as a
// reply inside a transaction.
func (t *Target) Saw(err error) {
	if t.observe != nil {
		t.observe(err)
	}
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
	client := redis.NewClient(&opts)
	if t.observe != nil {
		client.AddHook(observer{t.observe})
	}
	return client
}
