package task

import (
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/doorbell"
)

// Config is what the tasks of a worker share.
type Config struct {
	// Control is for short statements of Freshet's own, Read for claims and chunks: its
	// size bounds how many tasks read at a time.
	Control, Read *pgxpool.Pool
	Installation  string
	Bell          *doorbell.Bell
	Log           *slog.Logger
}

// ErrGone is returned when the sink does not exist any more: the task has no work.
var ErrGone = errors.New("the sink is gone")
