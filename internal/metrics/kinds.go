package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/target"
)

// What may go wrong between here and a server, whichever it is.
const (
	connection = "connection"
	timeout    = "timeout"
	encryption = "tls"
	other      = "other"
)

// redisCodes are the first words of replies that have a kind of their own.
var redisCodes = setOf("ASK", "BUSY", "CLUSTERDOWN", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH",
	"NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "WRONGPASS", "WRONGTYPE")

// sqlClasses are the classes of SQLSTATE that Postgres itself raises. Functions of the
// user's can raise any code.
var sqlClasses = setOf("0A", "21", "22", "23", "25", "26", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F",
	"40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX")

// redisKind is "" for what is not an error of the server or the way to it.
func redisKind(err error) string {
	var reply redis.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil), errors.Is(err, context.Canceled), errors.Is(err, redis.ErrClosed):
		return ""
	case errors.Is(err, fence.ErrFenced):
		return "fenced"
	case errors.Is(err, fence.ErrUnowned):
		return "unowned"
	case errors.Is(err, target.ErrConnectionLost):
		return connection
	case errors.As(err, &reply):
		code, _, _ := strings.Cut(reply.Error(), " ")
		if redisCodes[code] {
			return strings.ToLower(code)
		}
		return other
	}
	return networkKind(err)
}

// postgresKind likewise.
func postgresKind(err error) string {
	var (
		reply    *pgconn.PgError
		connects *pgconn.ConnectError
	)
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows), errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &reply):
		class := reply.Code[:min(2, len(reply.Code))]
		switch {
		case class == "08":
			return connection
		case sqlClasses[class]:
			return class
		}
		return other
	}
	kind := networkKind(err)
	if kind == other && (errors.As(err, &connects) || pgconn.SafeToRetry(err)) {
		return connection
	}
	return kind
}

func networkKind(err error) string {
	var (
		network     net.Error
		operation   *net.OpError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		return encryption
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(),
		errors.Is(err, redis.ErrPoolTimeout):
		return timeout
	case errors.As(err, &operation), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return connection
	}
	return other
}

func setOf(words ...string) map[string]bool {
	set := make(map[string]bool, len(words))
	for _, w := range words {
		set[w] = true
	}
	return set
}
