package worker

import (
	"context"
	"log/slog"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/pg"
)

// migrateConnections are one for Freshet's own tables, and some for River's.
const migrateConnections = 4

// Migrate installs Freshet into a database, or brings its schema up to the version that this
// package is of, as the command `freshet migrate` does. It may be called any number of times and
// by several processes at once, such as at the start of each, before [New]. The role of
// databaseURL becomes the owner of the schema. A logger that is nil is slog.Default().
func Migrate(ctx context.Context, databaseURL string, logger *slog.Logger) error {
	if logger == nil {
		logger = slog.Default()
	}
	pool, err := pg.Open(ctx, databaseURL, "freshet migrate", migrateConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	return install.Migrate(pg.Patient(ctx), pool, logger)
}
