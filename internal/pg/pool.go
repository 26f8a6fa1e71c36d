package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	closeTimeout = 2 * time.Second
	pingTimeout  = 5 * time.Second
)

// Open makes a pool of at most size connections and checks that the server answers.
// The name shows in pg_stat_activity. Statements that take longer than QueryTimeout
// fail: on a connection that hangs they would never end. Errors never contain the
// password.
func Open(ctx context.Context, databaseURL, name string, size int) (*pgxpool.Pool, error) {
	return OpenObserved(ctx, databaseURL, name, size, nil)
}

// OpenObserved is Open, and has observe called with every error of a connection or a
// statement.
func OpenObserved(ctx context.Context, databaseURL, name string, size int, observe func(error)) (*pgxpool.Pool, error) {
	return open(ctx, databaseURL, name, size, bound{observe: observe}, nil)
}

// OpenNoticed is Open, and has notice called with the message of every notice.
func OpenNoticed(ctx context.Context, databaseURL, name string, size int, notice func(string)) (*pgxpool.Pool, error) {
	return open(ctx, databaseURL, name, size, bound{}, func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n.Message) })
}

func open(ctx context.Context, databaseURL, name string, size int, tracer bound, notice pgconn.NoticeHandler) (*pgxpool.Pool, error) {
	config, err := ParseURL(databaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(size)
	config.MinConns = 0
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = name
	}
	config.ConnConfig.Tracer = tracer
	config.ConnConfig.OnNotice = notice
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	// A connection that was idle is asked first whether it still is one, which a dead one never says.
	config.PingTimeout = pingTimeout
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to Postgres: %w", oneLine(err))
	}
	return pool, nil
}

// ParseURL reads a database URL, or a list of keywords and values.
func ParseURL(databaseURL string) (*pgxpool.Config, error) {
	if rest, isURL := strings.CutPrefix(databaseURL, "postgres"); isURL {
		_, rest, _ = strings.Cut(rest, "://")
		// An @ or a / in a password would make the rest of it a host or a database name, which
		// messages then show.
		rest, _, _ = strings.Cut(rest, "?")
		authority, path, _ := strings.Cut(rest, "/")
		if strings.Count(authority, "@") > 1 || strings.Contains(path, "@") {
			return nil, errURL
		}
	}
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, unreadable(err)
	}
	// Entries are UTF-8, and so are the statements, whatever the database, its role or
	// PGOPTIONS would have between server and client.
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	config.ConnConfig.AfterConnect = unconverted
	return config, nil
}

// unconverted is for a database that does not know its encoding. It converts nothing,
// but would refuse to take back, as a place to read on from, a key that is not UTF-8.
func unconverted(ctx context.Context, conn *pgconn.PgConn) error {
	if conn.ParameterStatus("server_encoding") != "SQL_ASCII" {
		return nil
	}
	_, err := conn.Exec(ctx, "set client_encoding = 'SQL_ASCII'").ReadAll()
	return err
}

func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}
