package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// dump is what the server loads when it starts, if it is there.
const dump = "dump.rdb"

// back restarts a killed server with the dump of that name, or with nothing.
func (r *run) back(ctx context.Context, dir, old string) error {
	err := os.Remove(filepath.Join(dir, dump))
	if old != "" {
		err = os.Rename(filepath.Join(dir, old), filepath.Join(dir, dump))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("choose what Redis loads: %w", err)
	}
	return r.redis.Restart(context.WithoutCancel(ctx))
}

// insistRedis repeats until the server answers.
func (r *run) insistRedis(ctx context.Context, do func(ctx context.Context, c *redis.Client) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		err := do(ctx, r.caches["default"])
		if err == nil {
			return nil
		}
		if hold(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return err
		}
	}
}

// directory is where the server keeps its dumps.
func (r *run) directory(ctx context.Context) (dir string, err error) {
	err = r.insistRedis(ctx, func(ctx context.Context, c *redis.Client) error {
		found, err := c.ConfigGet(ctx, "dir").Result()
		dir = found["dir"]
		return err
	})
	return dir, err
}

func restartRedisEmpty(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	away := seconds(draw, 0, 3)
	if ctx.Err() != nil {
		return "", nil
	}
	dir, err := r.directory(ctx)
	if err != nil {
		return "", err
	}
	if err := r.redis.Kill(); err != nil {
		return "", err
	}
	hold(ctx, away)
	return "restarted with nothing", r.back(ctx, dir, "")
}

// restartRedisFromOldDump goes back to what was some seconds ago; other faults may strike
// in between.
func restartRedisFromOldDump(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	old := fmt.Sprintf("old-%d.rdb", draw.Uint64())
	age, away := seconds(draw, 0.2, 12), seconds(draw, 0, 1)
	release := r.alone("redis")
	if ctx.Err() != nil {
		release()
		return "", nil
	}
	dir, err := r.directory(ctx)
	if err == nil {
		err = r.insistRedis(ctx, func(ctx context.Context, c *redis.Client) error { return c.Save(ctx).Err() })
	}
	if err == nil {
		// Out of the way of a restart with nothing.
		err = os.Rename(filepath.Join(dir, dump), filepath.Join(dir, old))
	}
	release()
	if err != nil {
		return "", fmt.Errorf("save: %w", err)
	}
	hold(ctx, age)

	defer r.alone("redis")()
	r.mu.Lock()
	r.restored = true
	r.mu.Unlock()
	if err := r.redis.Kill(); err != nil {
		return "", err
	}
	hold(ctx, away)
	return fmt.Sprintf("restarted with a dump %.1f s old", age.Seconds()), r.back(ctx, dir, old)
}

func flushRedis(ctx context.Context, r *run, _ *rand.Rand) (string, error) {
	defer r.alone("redis")()
	if ctx.Err() != nil {
		return "", nil
	}
	return "FLUSHALL", r.insistRedis(ctx, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
}

// remove deletes keys of Freshet's own, all or each with a chance of a half.
func (r *run) remove(ctx context.Context, draw *rand.Rand, pattern string, of func(key string) bool) (int, error) {
	half, removed := draw.IntN(2) == 0, 0
	err := r.insistRedis(ctx, func(ctx context.Context, _ *redis.Client) error {
		for _, c := range r.caches {
			keys, err := c.Keys(ctx, pattern).Result()
			if err != nil {
				return err
			}
			for _, k := range keys {
				if !of(k) || half && draw.IntN(2) == 0 {
					continue
				}
				if err := c.Del(ctx, k).Err(); err != nil {
					return err
				}
				removed++
			}
		}
		return nil
	})
	return removed, err
}

// isOwnerKey: the rest of what Freshet keeps in a target are control keys.
func isOwnerKey(key string) bool {
	return key == "freshet:owners" || strings.HasSuffix(key, ":owner")
}

func deleteControlKeys(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	if ctx.Err() != nil {
		return "", nil
	}
	n, err := r.remove(ctx, draw, "freshet:*", func(k string) bool { return !isOwnerKey(k) })
	return fmt.Sprintf("%d control keys deleted", n), err
}

func deleteOwnerKeys(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	if ctx.Err() != nil {
		return "", nil
	}
	n, err := r.remove(ctx, draw, "freshet:*", isOwnerKey)
	return fmt.Sprintf("%d owner keys deleted", n), err
}

func cutConnections(ctx context.Context, r *run, _ *rand.Rand) (string, error) {
	defer r.alone("redis")()
	if ctx.Err() != nil {
		return "", nil
	}
	return "CLIENT KILL of every connection", r.insistRedis(ctx, func(ctx context.Context, c *redis.Client) error {
		return c.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
	})
}

func stopRedis(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	away := seconds(draw, 0.5, 10)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.redis.Pause(); err != nil {
		return "", err
	}
	hold(ctx, away)
	return "SIGSTOP and SIGCONT", r.redis.Resume()
}

// withSetting holds a setting of the server for a while.
func (r *run) withSetting(ctx context.Context, d time.Duration, name, value, back string) error {
	set := func(value string) error {
		return r.insistRedis(ctx, func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, name, value).Err() })
	}
	if err := set(value); err != nil {
		return err
	}
	hold(ctx, d)
	return set(back)
}

func refuseWrites(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	away := seconds(draw, 0.5, 8)
	if ctx.Err() != nil {
		return "", nil
	}
	return "writes refused for want of replicas", r.withSetting(ctx, away, "min-replicas-to-write", "1", "0")
}

func fillRedis(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("redis")()
	away := seconds(draw, 0.5, 8)
	if ctx.Err() != nil {
		return "", nil
	}
	return "writes refused for want of memory", r.withSetting(ctx, away, "maxmemory", "1", "0")
}
