package install

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/freshet/freshet/sql"
)

// Schema is where everything of Freshet's lives.
const Schema = "freshet"

// oldest is the first server version that has what the SQL needs: pg_snapshot came with 13; the
// bodies of functions in SQL, partitions that are being detached and compression by column, which
// freshet.fingerprint looks at, with 14.
const oldest = 140000

// migration is one numbered file of sql/migrations.
type migration struct {
	version int
	name    string
	text    string
}

// Migrate brings the database that pool is connected to up to this version. It may
// run any number of times and from several processes at once; the second waits for
// the first and finds nothing left to do. On an error nothing of the failed step is
// left behind.
func Migrate(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	var version int
	if err := pool.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("read server version: %w", err)
	}
	if version < oldest {
		return fmt.Errorf("this server is Postgres %d; Freshet needs version %d or later", version/10000, oldest/10000)
	}
	return alone(ctx, pool, log, func(pgx.Tx) error { return migrate(ctx, pool, log) })
}

func migrate(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Release()
	migrations, err := load()
	if err != nil {
		return err
	}
	done, err := begin(ctx, conn.Conn())
	if err != nil {
		return err
	}
	if latest := migrations[len(migrations)-1].version; done > latest {
		return fmt.Errorf("the schema in this database is version %d and this binary knows up to %d: use a newer freshet", done, latest)
	}
	for _, m := range migrations {
		if m.version <= done {
			continue
		}
		if err := apply(ctx, conn.Conn(), m); err != nil {
			return err
		}
		log.Info("migrated", "version", m.version, "name", m.name)
	}
	if err := migrateRiver(ctx, pool); err != nil {
		return err
	}
	if err := replaceFunctions(ctx, conn.Conn()); err != nil {
		return err
	}
	var role string
	var alone bool
	err = conn.QueryRow(ctx, "select current_user, to_regrole('freshet_admin') is null or to_regrole('freshet_worker') is null").Scan(&role, &alone)
	if err != nil {
		return fmt.Errorf("look for Freshet's roles: %w", err)
	}
	if alone {
		log.Warn(fmt.Sprintf("only %s can use Freshet, for it may not create the roles freshet_admin and freshet_worker: "+
			"have somebody create them, then run select freshet.grant_roles()", role))
	}
	return nil
}

// Version reports the schema version of a database, 0 when Freshet is not installed.
func Version(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (int, error) {
	var installed bool
	if err := db.QueryRow(ctx, "select to_regclass('freshet.schema_version') is not null").Scan(&installed); err != nil {
		return 0, fmt.Errorf("look for Freshet's schema: %w", err)
	}
	if !installed {
		return 0, nil
	}
	var version int
	if err := db.QueryRow(ctx, "select coalesce(max(version), 0) from freshet.schema_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// Latest is the schema version that this binary brings.
func Latest() (int, error) {
	migrations, err := load()
	if err != nil {
		return 0, err
	}
	return migrations[len(migrations)-1].version, nil
}

// setup makes what the first migration needs to be recorded in. Who owns the schema need
// not be allowed to make one in this database.
const setup = `do $freshet$
begin
    if to_regnamespace('freshet') is null then
        create schema freshet;
    end if;
    if exists (select from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'freshet' and a.grantee = 0) then
        revoke all on schema freshet from public;
    end if;
    if to_regclass('freshet.schema_version') is null then
        create table freshet.schema_version (
            version     integer primary key,
            name        text not null,
            applied_at  timestamptz not null default now()
        );
    end if;
    if exists (select from pg_class c, aclexplode(c.relacl) a where c.oid = to_regclass('freshet.schema_version') and a.grantee = 0) then
        revoke all on freshet.schema_version from public;
    end if;
end
$freshet$`

// hollow is what is wrong with a schema that was restored without its rows, and what helps.
const (
	hollow     = "schema freshet has tables and no version, as after a restore without rows"
	hollowHint = "drop schema freshet cascade, then migrate again and create the sinks anew"
)

func begin(ctx context.Context, conn *pgx.Conn) (int, error) {
	if _, err := conn.Exec(ctx, setup); err != nil {
		return 0, fmt.Errorf("create schema freshet: %w", err)
	}
	version, err := Version(ctx, conn)
	if err != nil || version != 0 {
		return version, err
	}
	var tables bool
	if err := conn.QueryRow(ctx, "select to_regclass('freshet.installation') is not null").Scan(&tables); err != nil {
		return 0, fmt.Errorf("look for Freshet's tables: %w", err)
	}
	if tables {
		return 0, fmt.Errorf("%s: %s", hollow, hollowHint)
	}
	return 0, nil
}

func apply(ctx context.Context, conn *pgx.Conn, m migration) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// The version row goes in first: whoever comes second waits here and then steps aside.
		if _, err := tx.Exec(ctx, "insert into freshet.schema_version (version, name) values ($1, $2)", m.version, m.name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, m.text)
		return err
	})
	if err != nil {
		return fmt.Errorf("apply migration %03d %s: %w", m.version, m.name, err)
	}
	return nil
}

func migrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: Schema,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("prepare the job queue's migrations: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	if _, err := pool.Exec(ctx, revokeRiver); err != nil {
		return fmt.Errorf("revoke the job queue's functions from PUBLIC: %w", err)
	}
	return nil
}

// revokeRiver takes from PUBLIC what Postgres gives it by default on River's functions.
const revokeRiver = `do $$
declare
    v_function  regprocedure;
begin
    for v_function in
        select p.oid from pg_proc p where p.pronamespace = 'freshet'::regnamespace and p.proname like 'river\_%'
    loop
        execute format('revoke all on function %s from public', v_function);
    end loop;
end
$$`

const grantRoles = "select freshet.grant_roles()"

func replaceFunctions(ctx context.Context, conn *pgx.Conn) error {
	files, err := fs.Glob(sql.Functions, "functions/*.sql")
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Functions call each other; their order is that of their names.
		if _, err := tx.Exec(ctx, "set local check_function_bodies = off"); err != nil {
			return err
		}
		for _, file := range files {
			text, err := fs.ReadFile(sql.Functions, file)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return fmt.Errorf("replace %s: %w", path.Base(file), err)
			}
		}
		if _, err := tx.Exec(ctx, grantRoles); err != nil {
			return fmt.Errorf("grant Freshet's roles what they need: %w", err)
		}
		return nil
	})
}

func load() ([]migration, error) {
	files, err := fs.Glob(sql.Migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	migrations := make([]migration, 0, len(files))
	for _, file := range files {
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s: its name does not begin with a number", file)
		}
		text, err := fs.ReadFile(sql.Migrations, file)
		if err != nil {
			return nil, err
		}
		migrations = append(migrations, migration{version: version, name: name, text: string(text)})
	}
	return migrations, nil
}
