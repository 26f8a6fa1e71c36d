package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers"
)

// stage is what benchmarks run on: one Postgres that flushes what it commits, one Redis,
// and worker processes.
type stage struct {
	rounds int
	// scale is by what numbers of rows and times are divided: 1, and more to be quick.
	scale int
	say   func(format string, args ...any)
	// describe is told what is measured on, if it is not nil.
	describe func(machine string) error

	dir, binary string
	postgres    *servers.Postgres
	redis       *servers.Redis
	databaseURL string
	db          *pgxpool.Pool
	cache       *redis.Client
}

// settings are those of a server for work, not for tests: commits are flushed.
var settings = map[string]string{
	"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB", "max_wal_size": "8GB",
	"checkpoint_timeout": "30min", "max_connections": "100",
	// How much of the WAL is kept to be used again; see recycle.
	"min_wal_size": "2GB",
	// Nothing is logged but what idle_cost counts.
	"logging_collector": "on", "log_line_prefix": "%a|", "log_checkpoints": "off",
}

// with opens the stage for the time of body.
func (s *stage) with(ctx context.Context, body func() error) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	quiet := slog.New(slog.DiscardHandler)
	if s.postgres, err = servers.StartPostgres(ctx, servers.Options{Purpose: servers.Test, Log: quiet, Postgres: settings}); err != nil {
		return err
	}
	if s.redis, err = servers.StartRedis(ctx, servers.Options{Purpose: servers.Test, Log: quiet}); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "freshet-bench-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s.binary = filepath.Join(s.dir, "freshet")
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/freshet/freshet/cmd/freshet")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build freshet: %w: %s", err, out)
	}
	if s.databaseURL, err = s.postgres.CreateDatabase(ctx, "bench"); err != nil {
		return err
	}
	if s.db, err = pgxpool.New(ctx, s.databaseURL); err != nil {
		return err
	}
	if err := s.recycle(ctx); err != nil {
		return err
	}
	if err := install.Migrate(ctx, s.db, quiet); err != nil {
		return err
	}
	opts, err := redis.ParseURL(s.redis.URL())
	if err != nil {
		return err
	}
	s.cache = redis.NewClient(opts)
	return body()
}

// walSegments are as many as min_wal_size keeps, or nearly.
const walSegments = 100

// recycle gives the server segments of the WAL to use again, as one has that has run for a while. A fresh one has none:
// whenever 16 MB are full it fills the next segment with zeros, and every commit waits for that, some 35 ms. At 5,000
// changes a second that is every six seconds, and no property of whom is measured.
func (s *stage) recycle(ctx context.Context) error {
	want := max(walSegments/s.scale, 5)
	// A segment without a record is not left.
	if err := s.exec(ctx, "select pg_logical_emit_message(false, '', ''), pg_switch_wal() from generate_series(1, $1::integer)", want); err != nil {
		return err
	}
	var ahead int
	// One checkpoint may keep what the one before has begun with.
	for range 2 {
		if err := s.exec(ctx, "checkpoint"); err != nil {
			return err
		}
		var err error
		if ahead, err = one[int](ctx, s, "select count(*) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$' and name > pg_walfile_name(pg_current_wal_lsn())"); err != nil {
			return err
		}
		if ahead >= want*3/4 {
			return nil
		}
	}
	return fmt.Errorf("%d segments of the WAL are ready to be used again, of %d that were made", ahead, want)
}

func (s *stage) close() error {
	var errs []error
	if s.db != nil {
		s.db.Close()
	}
	if s.cache != nil {
		errs = append(errs, s.cache.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// clear drops what sinks a benchmark has left, and what is in Redis.
func (s *stage) clear(ctx context.Context) error {
	sinks, err := one[int](ctx, s, "select count(*) from freshet.sinks")
	if err == nil && sinks > 0 {
		err = s.serve(ctx, func() error {
			if err := s.exec(ctx, "select freshet.drop_sink(sink, keep_entries => true) from freshet.sinks where state <> 'dropping'"); err != nil {
				return err
			}
			return s.await(ctx, "select not exists (select from freshet.sinks)")
		})
	}
	return errors.Join(err, s.empty(ctx))
}

// serve has a worker run for as long as body.
func (s *stage) serve(ctx context.Context, body func() error) error {
	_, end, err := s.worker(ctx)
	if err != nil {
		return err
	}
	return errors.Join(body(), end())
}

// rows is n at full scale.
func (s *stage) rows(n int) int { return n / s.scale }

// exec runs statements of the owner's.
func (s *stage) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := s.db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// alone runs a statement on a connection of its own, for what it sets to end with it.
func (s *stage) alone(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// one reads one value.
func one[T any](ctx context.Context, s *stage, sql string, args ...any) (T, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err == nil {
		var v T
		if v, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[T]); err == nil {
			return v, nil
		}
	}
	var none T
	return none, fmt.Errorf("%s: %w", sql, err)
}

// awaitTime is more than anything takes that is waited for.
const awaitTime = 9 * time.Minute

// await asks until a query says true.
func (s *stage) await(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitTime, fmt.Errorf("gave up waiting after %s: %s", awaitTime, sql))
	defer cancel()
	for {
		done, err := one[bool](ctx, s, sql, args...)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// environment is that of a freshet command.
func (s *stage) environment() []string {
	return []string{"FRESHET_DATABASE_URL=" + s.databaseURL, "FRESHET_REDIS_URL=" + s.redis.URL(), "PATH=" + os.Getenv("PATH")}
}

// client is a connection to Redis of its own.
func (s *stage) client() *redis.Client {
	opts := *s.cache.Options()
	return redis.NewClient(&opts)
}

// worker starts a worker process. end stops it in order, as a deployment does.
func (s *stage) worker(ctx context.Context) (pid int, end func() error, err error) {
	log, err := os.OpenFile(filepath.Join(s.dir, "worker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("open log of a worker: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "worker")
	cmd.Env = s.environment()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := servers.StartProcess(cmd)
	if err != nil {
		return 0, nil, fmt.Errorf("start a worker: %w", err)
	}
	end = func() error {
		bySelf := p.Exited(0)
		p.Signal(syscall.SIGTERM)
		if !p.Exited(20 * time.Second) {
			p.Kill()
			return errors.New("a worker did not stop")
		}
		if state := p.State(); bySelf || state != "exit status 0" {
			said, err := os.ReadFile(log.Name())
			return errors.Join(fmt.Errorf("a worker ended (%s), and its last words are: %s", state, said[max(0, len(said)-2000):]), err)
		}
		return nil
	}
	if err := s.await(ctx, "select exists (select from freshet.worker where heartbeat_at > now() - interval '5 s')"); err != nil {
		return 0, nil, errors.Join(err, end())
	}
	return cmd.Process.Pid, end, nil
}
