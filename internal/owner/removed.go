package owner

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

const (
	// removedEvery is how often a target is looked at.
	removedEvery   = time.Second
	removedTimeout = 5 * time.Second
	// knownFor is for how many looks a sink that owns something is taken for one that was not
	// removed. It may have been since, and the target have gone back, between two looks.
	knownFor = 5
)

// RemoveAgain looks until ctx ends whether a target has come to have entries again of sinks
// that were removed from it: it went back to the data of some time before, and what says who
// owns them came back too. Then it asks for their removal.
func RemoveAgain(ctx context.Context, db catalog.Querier, installation string, t *target.Target, log *slog.Logger) {
	// known are sinks that own something and were not removed when that was asked.
	known := make(map[int32]bool)
	// left are those of a copy that were told of.
	left := make(map[int32]bool)
	looks := 0
	task.Repeat(ctx, removedEvery, log, "who owns the keys of target "+t.Name+" cannot be read", "who owns the keys of target "+t.Name+" is read again",
		func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, removedTimeout)
			defer cancel()
			if looks++; looks%knownFor == 0 {
				clear(known)
			}
			err := removeAgain(ctx, db, installation, t, known, left, log)
			if err != nil {
				clear(known)
			}
			return err
		})
}

func removeAgain(ctx context.Context, db catalog.Querier, installation string, t *target.Target, known, left map[int32]bool, log *slog.Logger) error {
	fields, err := t.Shared().HGetAll(ctx, Owners).Result()
	if err != nil {
		return fmt.Errorf("target %s: read who owns its keys: %w", t.Name, err)
	}
	var (
		others  []int32
		present = make(map[int32]bool, len(fields))
	)
	for f, value := range fields {
		number, is := strings.CutPrefix(f, installation+":")
		if !is {
			continue
		}
		id, err := strconv.ParseInt(number, 10, 32)
		if err != nil {
			continue // claims say that it is not Freshet's
		}
		if o, err := parse(value); err != nil || o.Target != t.Name {
			continue // it is there by another target that is the same server
		}
		if present[int32(id)] = true; !known[int32(id)] {
			others = append(others, int32(id))
		}
	}
	maps.DeleteFunc(known, func(id int32, _ bool) bool { return !present[id] })
	if len(others) == 0 {
		return nil
	}
	// What is appended to the name of a sink that was dropped is not what its owner calls it.
	rows, err := db.Query(ctx, `
		select sink_id, split_part(sink ->> 'name', '~', 1) as name
		from freshet.removed where sink_id = any($1) and target = $2`, others, t.Name)
	if err != nil {
		return fmt.Errorf("read which sinks were removed: %w", err)
	}
	type gone struct {
		ID   int32 `db:"sink_id"`
		Name string
	}
	removed, err := pgx.CollectRows(rows, pgx.RowToStructByName[gone])
	if err != nil {
		return fmt.Errorf("read which sinks were removed: %w", err)
	}
	for _, id := range others {
		known[id] = true
	}
	if len(removed) == 0 {
		return nil
	}
	incarnation, err := catalog.Incarnation(ctx, db)
	if err != nil {
		return err
	}
	for _, sink := range removed {
		delete(known, sink.ID)
		wrote, err := Foreign(ctx, installation, t, sink.ID, incarnation)
		if err != nil {
			return err
		}
		if wrote != "" {
			if !left[sink.ID] {
				left[sink.ID] = true
				log.Warn("another database with this installation in it has written entries of a sink that was removed here: they stay", "sink", sink.Name, "target", t.Name, "writer", wrote)
			}
			continue
		}
		var asked bool
		if err := db.QueryRow(ctx, "select freshet.remove_again($1, $2)", sink.ID, t.Name).Scan(&asked); err != nil {
			return fmt.Errorf("ask for the removal of entries: %w", err)
		}
		if asked {
			log.Warn("the target has entries again of a sink that was removed from it: they are removed once more", "sink", sink.Name, "target", t.Name)
		}
	}
	return nil
}
