package servers

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// source is where a server is to come from.
type source int

const (
	fromBinaries source = iota
	fromDocker
	// fromFallback is a download for Postgres and miniredis for Redis.
	fromFallback
)

// program is a server's installed binaries.
type program struct {
	dir     string // where the binaries are
	command string // the server's binary
	version string
}

// choose applies the table in doc.go to one product, "postgres" or "redis".
func (m machine) choose(ctx context.Context, log *slog.Logger, purpose Purpose, product string) (source, program, error) {
	find := m.postgres
	if product == "redis" {
		find = m.redis
	}
	prog, findErr := find(ctx)
	if findErr == nil {
		return fromBinaries, prog, nil
	}
	var installErr error
	if purpose == Test {
		installErr = m.install(ctx, log, product, func() bool {
			_, err := find(ctx)
			return err == nil
		})
		if installErr == nil {
			if prog, findErr = find(ctx); findErr == nil {
				return fromBinaries, prog, nil
			}
			installErr = fmt.Errorf("the package is installed, and still %w", findErr)
		}
	}
	dockerErr := m.docker(ctx)
	switch {
	case dockerErr == nil:
		return fromDocker, program{}, nil
	case ctx.Err() != nil:
		return 0, program{}, ctx.Err()
	case purpose == Demo:
		return fromFallback, program{}, nil
	}
	return 0, program{}, fmt.Errorf("%s; could not install: %s; no Docker: %s; install %s or start Docker",
		oneLine(findErr), oneLine(installErr), oneLine(dockerErr), needed[product])
}

// needed names each product as a person would install it.
var needed = map[string]string{
	"postgres": fmt.Sprintf("Postgres %d or later", oldestPostgres),
	"redis":    "redis-server",
}

// oneLine keeps the error one line, whatever a package manager or the Docker
// client put in it.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
