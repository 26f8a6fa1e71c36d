package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

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
			return t.permitted(ctx, conn)
		}
	}
	if denied := forbidden(multi, exec); len(denied) > 0 {
		return t.notPermitted(denied)
	}
	return fmt.Errorf("target %s (%s): it does not run MULTI … EXEC as a transaction, which Freshet's writes depend on: %w", t.Name, t.Addr(), errors.Join(err, ErrUnsuitable))
}

// probed is a key of Freshet's own that is never written.
const probed = "freshet:probe"

// reading and writing are the commands that Freshet sends beside those of Check, with
// arguments that change nothing: what writes is put into a transaction that never ends.
var (
	reading = [][]any{
		{"watch", probed}, {"unwatch"}, {"hmget", probed, "f"}, {"hget", probed, "f"}, {"hgetall", probed}, {"exists", probed},
		{"get", probed}, {"mget", probed}, {"pttl", probed}, {"scan", "0", "match", probed, "count", "1"},
	}
	writing = [][]any{
		{"set", probed, ""}, {"mset", probed, ""}, {"del", probed}, {"hset", probed, "f", ""}, {"hdel", probed, "f"},
		{"persist", probed}, {"pexpire", probed, "1"},
	}
)

// permitted makes sure that the user may send every command that Freshet needs, on keys of
// Freshet's own. It leaves conn inside a transaction.
func (t *Target) permitted(ctx context.Context, conn *redis.Conn) error {
	pipe := conn.Pipeline()
	var asked []*redis.Cmd
	for _, args := range slices.Concat(reading, [][]any{{"multi"}}, writing) {
		asked = append(asked, pipe.Do(ctx, args...))
	}
	// Only what is forbidden is judged here; what is out of order shows when it is used.
	_, _ = pipe.Exec(ctx)
	if denied := forbidden(asked...); len(denied) > 0 {
		return t.notPermitted(denied)
	}
	for _, cmd := range asked {
		if isForbidden(cmd.Err()) {
			return fmt.Errorf("target %s (%s): its user may not use the keys that begin with freshet: (%w; %w)", t.Name, t.Addr(), cmd.Err(), ErrUnsuitable)
		}
	}
	return nil
}

func (t *Target) notPermitted(commands []string) error {
	return fmt.Errorf("target %s (%s): its user may not run %s, which Freshet needs (%w)", t.Name, t.Addr(), strings.Join(commands, ", "), ErrUnsuitable)
}

// KnowsMoments makes sure that the server can have an entry expire at a moment. It is asked
// for sinks that need it only: an older server is good for all others. To a server that does
// not know how, that is an error in the middle of a transaction, which goes on.
func (t *Target) KnowsMoments(ctx context.Context) error {
	// Of a key that is never there nothing is set.
	err := t.shared.Do(ctx, "set", probed, "", "xx", "pxat", "1").Err()
	if err != nil && strings.Contains(err.Error(), "syntax error") {
		return fmt.Errorf("target %s (%s): it does not know SET … PXAT, which expires_at needs: use Redis 6.2 or newer (%w)", t.Name, t.Addr(), ErrUnsuitable)
	}
	// Whatever else is wrong shows in what follows.
	return nil
}

// MaxValue is the most bytes that the server takes in one value, 0 if it does not tell. It closes
// the connection of whoever sends more, and whoever only tries again does so for ever.
func (t *Target) MaxValue(ctx context.Context) int {
	const name = "proto-max-bulk-len"
	if t.mute.Load() {
		return 0
	}
	// Not every server may be asked, or has such a limit, and one that refuses once is not asked again. Whatever else is
	// wrong shows in what follows.
	settings, err := t.shared.ConfigGet(ctx, name).Result()
	if reply := redis.Error(nil); errors.As(err, &reply) {
		t.mute.Store(true)
	}
	most, _ := strconv.Atoi(settings[name])
	return most
}

// forbidden lists the commands among these that the user may not run at all.
func forbidden(asked ...*redis.Cmd) []string {
	var denied []string
	for _, cmd := range asked {
		if err := cmd.Err(); isForbidden(err) && strings.Contains(err.Error(), "to run") {
			denied = append(denied, cmd.Name())
		}
	}
	return denied
}

// isForbidden also knows the reply to a transaction that was aborted because of it.
func isForbidden(err error) bool {
	return err != nil && strings.Contains(err.Error(), "NOPERM")
}

// Explain adds to an error of writing entries under these keys, if it is one of rights,
// what the user lacks.
func (t *Target) Explain(err error, pattern string) error {
	var reply redis.Error
	if errors.As(err, &reply) && isForbidden(reply) {
		return fmt.Errorf("write to target %s: its user needs the keys %s and freshet:*: %w", t.Name, pattern, err)
	}
	return fmt.Errorf("write to target %s: %w", t.Name, err)
}

// ErrUnsuitable is in the chain of errors that no waiting mends.
var ErrUnsuitable = errors.New("unsuitable server")
