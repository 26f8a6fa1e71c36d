package servers

import (
	"context"
	"errors"
	"log/slog"
)

// Purpose decides which providers may be used, and in which order.
type Purpose int

const (
	// Demo changes nothing on the machine and takes what is easiest to get.
	Demo Purpose = iota
	// Test wants real servers and may install them with the package manager.
	Test
)

// Options say what is wanted of a server. The zero value is a demo server with
// default settings and no log.
type Options struct {
	// Purpose decides which providers may be used. Defaults to Demo.
	Purpose Purpose
	// Log gets one line per server started and per package installed or
	// downloaded. Defaults to none.
	Log *slog.Logger
	// Postgres holds server settings, such as {"max_prepared_transactions": "10"}.
	// They override the defaults: fsync off, because the data does not outlive
	// the server anyway, max_connections 200, shared_buffers 128MB.
	Postgres map[string]string
	// Redis holds directives as in redis.conf, such as {"maxmemory": "64mb"}.
	// They override the defaults: no persistence. Ignored by miniredis.
	Redis map[string]string
	// InMemory keeps the files of a Postgres from installed binaries in memory where Linux has room for that, which
	// spares the disk many small files. Defaults to false: the temporary directory.
	InMemory bool
	// RedisTLS gives Redis a second port, for TLS. It takes installed binaries.
	// Defaults to none.
	RedisTLS *RedisTLS
}

// RedisTLS names the PEM files of a server that speaks TLS.
type RedisTLS struct {
	// Cert and Key are the server's own.
	Cert, Key string
	// CA is who signs its clients; a client without a certificate is refused.
	CA string
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// ErrNotOurProcess is returned by what needs a process of our own, such as
// Crash and Pause, when the server runs in Docker or inside this process.
var ErrNotOurProcess = errors.New("needs a server started from installed binaries")

// ErrStopped is returned by every method that needs a server after Stop.
var ErrStopped = errors.New("server has been stopped")

// machine is what the choice of a provider looks at. Tests replace it.
type machine struct {
	postgres func(context.Context) (program, error)
	redis    func(context.Context) (program, error)
	install  func(ctx context.Context, log *slog.Logger, product string, installed func() bool) error
	docker   func(context.Context) error
}

var thisMachine = machine{
	postgres: findPostgres,
	redis:    findRedis,
	install:  install,
	docker:   dockerAnswers,
}
