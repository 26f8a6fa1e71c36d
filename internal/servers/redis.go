package servers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
)

// Redis is a private Redis server.
type Redis struct {
	instance
	password string
	tls      *RedisTLS
	// tlsPort goes with port, and changes with it.
	tlsPort, tlsBeside int
}

// StartRedis starts a server and returns once it answers. ctx bounds the start
// only: the server lives until Stop.
func StartRedis(ctx context.Context, o Options) (*Redis, error) {
	return thisMachine.startRedis(ctx, o)
}

func (m machine) startRedis(ctx context.Context, o Options) (*Redis, error) {
	r := &Redis{instance: instance{product: "redis"}, password: o.Redis["requirepass"], tls: o.RedisTLS}
	from, prog, err := m.choose(ctx, o.log(), o.Purpose, "redis")
	if err == nil && r.tls != nil && from != fromBinaries {
		err = ErrNotOurProcess
	}
	if err == nil {
		switch from {
		case fromBinaries:
			r.provider = fmt.Sprintf("installed binary %s (%s)", prog.command, prog.version)
			err = r.run(ctx, prog, o.Redis)
		case fromDocker:
			err = r.runInDocker(ctx, o)
		case fromFallback:
			err = r.runInProcess()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	o.log().Info("redis started", "provider", r.provider, "addr", r.Addr())
	return r, nil
}

// URL connects to database 0.
func (r *Redis) URL() string { return r.DatabaseURL(0) }

// DatabaseURL connects to a database by its number.
func (r *Redis) DatabaseURL(n int) string {
	u := url.URL{Scheme: "redis", Host: r.Addr(), Path: "/" + strconv.Itoa(n)}
	if r.password != "" {
		u.User = url.UserPassword("", r.password)
	}
	return u.String()
}

// TLSAddr is host:port for TLS.
func (r *Redis) TLSAddr() string { return net.JoinHostPort(r.host, strconv.Itoa(r.tlsPort)) }

// Kill kills the server with -9. It stays down until Restart; without
// persistence it then comes back empty.
func (r *Redis) Kill() error {
	return r.with("kill", func() { r.child.killTree() })
}

// Pause stops the process in its tracks: connections stay open and nothing
// answers, as from a host that hangs.
func (r *Redis) Pause() error {
	return r.with("pause", func() { r.child.signal(syscall.SIGSTOP) })
}

// Resume lets a paused server go on.
func (r *Redis) Resume() error {
	return r.with("resume", func() { r.child.signal(syscall.SIGCONT) })
}
