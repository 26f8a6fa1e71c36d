package pg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const closeTimeout = 2 * time.Second

// Open makes a pool of at most size connections and checks that the server answers.
// The name shows in pg_stat_activity. Errors never contain the password.
func Open(ctx context.Context, databaseURL, name string, size int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", Redact(err, databaseURL))
	}
	config.MaxConns = int32(size)
	config.MinConns = 0
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = name
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
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

// Redact returns err without the secret parts of a URL in its text.
func Redact(err error, rawURL string) error {
	text := err.Error()
	if u, parseErr := url.Parse(rawURL); parseErr == nil && u.User != nil {
		if password, ok := u.User.Password(); ok && password != "" {
			text = strings.ReplaceAll(text, password, "xxxxx")
			text = strings.ReplaceAll(text, url.QueryEscape(password), "xxxxx")
		}
	} else if parseErr != nil {
		// What cannot be parsed cannot be searched for its password either.
		text = strings.ReplaceAll(text, rawURL, "…")
	}
	return errors.New(text)
}

func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// Code is the SQLSTATE of err, or "" when it did not come from the server.
func Code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
