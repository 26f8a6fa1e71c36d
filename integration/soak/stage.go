package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers"
)

// open starts servers and workers, and makes the sources and their sinks.
func (r *run) open(ctx context.Context) (err error) {
	draw := r.stream(forSettings, 0)
	// Where it is on, the bell never rings and changes are found by looking: two ways to work.
	prepared := "0"
	if r.Prepared = draw.IntN(2) == 0; r.Prepared {
		prepared = "20"
	}
	quiet := slog.New(slog.DiscardHandler)
	redis.SetLogger(silence{}) // servers that are away are no news here
	r.postgres, err = servers.StartPostgres(ctx, servers.Options{Purpose: servers.Test, Log: quiet, Postgres: map[string]string{
		"max_prepared_transactions": prepared, "deadlock_timeout": "50ms", "wal_writer_delay": "1s", "max_wal_size": "4GB",
		"log_line_prefix": "%m [%p] %a ", "log_min_error_statement": "panic",
	}})
	if err != nil {
		return err
	}
	if r.redis, err = servers.StartRedis(ctx, servers.Options{Purpose: servers.Test, Log: quiet}); err != nil {
		return err
	}
	if r.postgres.PID() == 0 || r.redis.PID() == 0 {
		return fmt.Errorf("a soak kills and pauses its servers: %w", servers.ErrNotOurProcess)
	}
	if r.dir, err = os.MkdirTemp("", "freshet-soak-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	r.binary = filepath.Join(r.dir, "freshet")
	build := exec.CommandContext(ctx, "go", "build", "-o", r.binary, "github.com/freshet/freshet/cmd/freshet")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build freshet: %w: %s", err, out)
	}
	for name, number := range targets {
		opts, err := redis.ParseURL(r.redis.DatabaseURL(number))
		if err != nil {
			return err
		}
		opts.ClientName = "soak"
		r.caches[name] = redis.NewClient(opts)
	}

	if r.superURL, err = r.postgres.CreateDatabase(ctx, "soak"); err != nil {
		return err
	}
	if r.super, err = pool(ctx, r.superURL, "soak super"); err != nil {
		return err
	}
	if err := install.Migrate(ctx, r.super, quiet); err != nil {
		return err
	}
	if _, err := r.super.Exec(ctx, roles); err != nil {
		return fmt.Errorf("make roles: %w", err)
	}
	r.ownerURL, r.workerURL = as(r.superURL, "app_owner"), as(r.superURL, "app_worker")
	if r.db, err = pool(ctx, r.ownerURL, "soak"); err != nil {
		return err
	}
	var version string
	err = r.super.QueryRow(ctx, "select current_setting('server_version_num')::int, current_setting('server_version'), (select id from freshet.installation)").
		Scan(&r.version, &version, &r.installation)
	if err != nil {
		return fmt.Errorf("ask Postgres: %w", err)
	}
	r.Postgres = "Postgres " + version
	if err := r.hurry(ctx, draw); err != nil {
		return err
	}
	if err := r.makeSources(ctx); err != nil {
		return err
	}
	r.say("%s, prepared transactions %v, %d sinks, %d workers", r.Postgres, r.Prepared, len(r.sinks()), r.config.workers)
	for n := range r.config.workers {
		w := &worker{run: r, number: n + 1}
		r.workers = append(r.workers, w)
		if err := w.begin(); err != nil {
			return err
		}
	}
	return nil
}

// hurry makes change tables rotate as they do in hours. With the longer retention a cursor
// that goes back is still above the floor, with the shorter one it often is not.
func (r *run) hurry(ctx context.Context, draw *rand.Rand) error {
	retention := []string{"3 s", "25 s"}[draw.IntN(2)]
	_, err := r.super.Exec(ctx, `
		update freshet.installation
		set retention = $1::text::interval, rotate_after = '4 s', settle_after = '3 s', rotate_bytes = 1 << 20`, retention)
	if err != nil {
		return fmt.Errorf("hurry rotation: %w", err)
	}
	r.say("changes are kept for %s after they were applied", retention)
	return nil
}

// roles are as a careful user would have them: one who owns the tables, one for workers.
const roles = `
	create role app_owner login;
	create role app_worker login;
	grant freshet_admin to app_owner;
	grant freshet_worker to app_worker;
	alter database soak owner to app_owner;
	grant all on schema public to app_owner`

func as(databaseURL, role string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // it is our own
	}
	u.User = url.User(role)
	return u.String()
}

// pool opens connections that print values as Freshet promises them.
func pool(ctx context.Context, databaseURL, name string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	c.MaxConns = 8
	for k, v := range map[string]string{
		"application_name": name, "timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres",
		"bytea_output": "hex", "extra_float_digits": "1",
	} {
		c.ConnConfig.RuntimeParams[k] = v
	}
	return pgxpool.NewWithConfig(ctx, c)
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// close ends everything that open began, in the reverse order.
func (r *run) close() error {
	var errs []error
	for _, w := range r.workers {
		w.end()
	}
	for _, p := range []*pgxpool.Pool{r.db, r.super} {
		if p != nil {
			p.Close()
		}
	}
	for _, c := range r.caches {
		errs = append(errs, c.Close())
	}
	if r.redis != nil {
		errs = append(errs, r.redis.Stop())
	}
	if r.postgres != nil {
		errs = append(errs, r.postgres.Stop())
	}
	if r.dir != "" && !(r.keep && !r.Passed()) {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}
