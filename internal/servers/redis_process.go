package servers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisDefaults: nothing is kept, since nobody will come back for it.
var redisDefaults = map[string]string{
	"save":       `""`,
	"appendonly": "no",
}

// redisSignals: SIGTERM saves where there is something to save. SIGKILL loses
// nothing that is not thrown away, and also ends a paused server.
var redisSignals = stopSignals{clean: syscall.SIGTERM, atOnce: syscall.SIGKILL}

// run starts the server from its binary, in a directory made for it. Unlike
// Postgres it does not mind being root.
func (r *Redis) run(ctx context.Context, prog program, directives map[string]string) (err error) {
	if r.dir, err = newPrivateDir(redisDir, false); err != nil {
		return err
	}
	var us *account
	r.signals = redisSignals
	r.command = func(port int) (*exec.Cmd, error) {
		path := r.dir.join("redis.conf")
		fixed := map[string]string{
			"bind": "127.0.0.1", "port": strconv.Itoa(port), "dir": `"` + r.dir.path + `"`, "daemonize": "no",
		}
		if err := r.addTLS(port, fixed); err != nil {
			return nil, err
		}
		text := redisConfig(directives, fixed)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write redis.conf: %w", err)
		}
		return us.command(r.dir.path, prog.command, path), nil
	}
	r.ready = r.answers
	if err := r.launch(ctx); err != nil {
		return errors.Join(err, r.Stop())
	}
	return nil
}

// addTLS adds the directives for the port for TLS.
func (r *Redis) addTLS(port int, directives map[string]string) error {
	if r.tls == nil {
		return nil
	}
	// A restart keeps the port; another try of the first start has to find another one.
	if r.tlsBeside != port {
		var err error
		if r.tlsPort, err = freePort(); err != nil {
			return err
		}
		r.tlsBeside = port
	}
	directives["tls-port"] = strconv.Itoa(r.tlsPort)
	for name, path := range map[string]string{"tls-cert-file": r.tls.Cert, "tls-key-file": r.tls.Key, "tls-ca-cert-file": r.tls.CA} {
		directives[name] = strconv.Quote(path)
	}
	return nil
}

// redisConfig is the text of a redis.conf: our defaults, what was asked for,
// and what has to be so.
func redisConfig(asked, fixed map[string]string) string {
	all := maps.Clone(redisDefaults)
	maps.Copy(all, asked)
	maps.Copy(all, fixed)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&text, "%s %s\n", name, value)
	}
	return text.String()
}

// answers reports whether the server takes commands and, unless pid is 0, is
// that process: on a port lost to another one, another Redis would answer.
func (r *Redis) answers(ctx context.Context, pid int) error {
	// By hand first: go-redis logs every connection that is refused, and before
	// the server is up that is most of them.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Addr())
	if err != nil {
		return err
	}
	_ = conn.Close()
	client := redis.NewClient(&redis.Options{
		Addr: r.Addr(), Password: r.password, DialTimeout: time.Second, ReadTimeout: time.Second,
		MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	defer client.Close()
	// PING is refused while a server loads its data; INFO is not.
	if err := client.Ping(ctx).Err(); err != nil {
		return err
	}
	if pid == 0 {
		return nil
	}
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
		return fmt.Errorf("another server answers on port %d", r.port)
	}
	return nil
}
