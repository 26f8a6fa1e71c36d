package servers

import (
	"context"
	"fmt"
	"net/url"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Postgres is a private Postgres server, with a superuser of the name postgres.
type Postgres struct {
	instance
	password string // empty where the server trusts this machine
}

// StartPostgres starts a server and returns once it answers. ctx bounds the
// start only: the server lives until Stop.
func StartPostgres(ctx context.Context, o Options) (*Postgres, error) {
	return thisMachine.startPostgres(ctx, o)
}

func (m machine) startPostgres(ctx context.Context, o Options) (*Postgres, error) {
	p := &Postgres{instance: instance{product: "postgres"}}
	from, prog, err := m.choose(ctx, o.log(), o.Purpose, "postgres")
	if err == nil {
		switch from {
		case fromBinaries:
			p.provider = fmt.Sprintf("installed binaries %s (%s)", prog.dir, prog.version)
			err = p.run(ctx, prog, o)
		case fromDocker:
			err = p.runInDocker(ctx, o)
		case fromFallback:
			if prog, err = fetchPostgres(ctx, o.log()); err == nil {
				p.provider = fmt.Sprintf("downloaded binaries %s (%s)", prog.dir, prog.version)
				err = p.run(ctx, prog, o)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	o.log().Info("postgres started", "provider", p.provider, "addr", p.Addr())
	return p, nil
}

// URL connects to a database of the server as its superuser.
func (p *Postgres) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Host: p.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	if p.password != "" {
		u.User = url.UserPassword(superuser, p.password)
	}
	return u.String()
}

// CreateDatabase makes an empty database and returns its URL.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) (string, error) {
	return p.CopyDatabase(ctx, "template1", name)
}

// CopyDatabase creates a database with all that is in another one, which nobody may be
// connected to, and returns its URL.
func (p *Postgres) CopyDatabase(ctx context.Context, from, name string) (string, error) {
	if err := p.exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" template "+pgx.Identifier{from}.Sanitize()); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return p.URL(name), nil
}

// DropDatabase drops a database, whoever is still connected to it. It is no
// error if there is none of the name.
func (p *Postgres) DropDatabase(ctx context.Context, name string) error {
	if err := p.exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func (p *Postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// Crash kills the postmaster and all its backends with -9. The server stays
// down until Restart, which then does crash recovery.
func (p *Postgres) Crash() error {
	return p.with("crash", func() { p.child.killTree() })
}

// postgresSignals: SIGINT is a fast shutdown, SIGQUIT an immediate one. Of the
// two only the latter does without a checkpoint, which is lost time when the
// data goes too; and either takes the backends along.
var postgresSignals = stopSignals{clean: syscall.SIGINT, atOnce: syscall.SIGQUIT}
