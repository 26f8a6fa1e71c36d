package maintain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

const (
	// passPause is how often a sweep looks whether the lanes have come far enough.
	passPause = 200 * time.Millisecond
	// brokenPause is how often it looks whether a sink that is broken is well again.
	brokenPause = time.Second
	// together is about how many keys are looked up in one statement.
	together = 5000
)

// Sweep touches the tuples of entries that have no row any more. It returns true when
// it is done, false when stop was closed.
func Sweep(ctx context.Context, c task.Config, t *target.Target, held *lease.Held, stop <-chan struct{}) (bool, error) {
	sink, err := catalog.LoadSink(ctx, c.Control, held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) || (err == nil && sink.Dropping) {
		return false, task.ErrGone
	}
	if err != nil {
		return false, err
	}
	if sink.Broken != "" && sink.Table != "" {
		// It is looked at again by others.
		_, err := task.Pause(ctx, stop, brokenPause)
		return false, err
	}
	reader, err := source.NewReader(c.Bulk, sink, c.Transforms)
	if err != nil {
		return false, err
	}
	// What the lane still has to remove is no business of ours, and what it writes after
	// we looked may be older than what asked for the sweep.
	for {
		begun, err := begin(ctx, c.Control, t, held)
		if err != nil {
			return false, err
		}
		if begun {
			break
		}
		if waited, err := task.Pause(ctx, stop, passPause); !waited {
			return false, err
		}
	}

	// Nor is what somebody writes late who knows an older definition only.
	incarnation, err := catalog.Incarnation(ctx, c.Control)
	if err != nil {
		return false, err
	}
	if err := redefine.Older(ctx, c, t, sink, incarnation); err != nil {
		return false, err
	}

	swept := 0
	var suspects [][]string
	look := func() error {
		gone, err := reader.Absent(ctx, suspects)
		suspects = suspects[:0]
		if err != nil || len(gone) == 0 {
			return err
		}
		swept += len(gone)
		return Touch(ctx, c.Control, sink, gone)
	}
	err = scan.Keys(ctx, c.Control, t, sink, stop, func(_ []string, tuples [][]string) error {
		if suspects = append(suspects, tuples...); len(suspects) < together {
			return nil
		}
		return look()
	})
	if err == nil && len(suspects) > 0 {
		err = look()
	}
	if errors.Is(err, scan.ErrStopped) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.Log.Info("swept", "sink", sink.Name, "target", t.Name, "orphans", swept)
	return true, nil
}

// begin reports whether the lanes have come as far as the sweep is to wait for, which may be further than it was before,
// and has it begin then.
func begin(ctx context.Context, db catalog.Querier, t *target.Target, held *lease.Held) (bool, error) {
	var after string
	if err := db.QueryRow(ctx, "select cursor from freshet.lease where id = $1 and epoch = $2", held.ID, held.Epoch).Scan(&after); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return false, lease.ErrLost
		}
		return false, fmt.Errorf("look what the sweep is to wait for: %w", err)
	}
	passed, err := catalog.LanesPassed(ctx, db, held.SinkID, t.Name, after)
	if err != nil || !passed {
		return false, err
	}
	var begun bool
	err = db.QueryRow(ctx, `
		with b as (update freshet.lease set begun = true where id = $1 and epoch = $2 and cursor = $3 returning id)
		select exists (select from b)`, held.ID, held.Epoch, after).Scan(&begun)
	if err != nil {
		return false, fmt.Errorf("begin sweep: %w", err)
	}
	return begun, nil
}

// Touch touches these tuples of a sink.
func Touch(ctx context.Context, db catalog.Querier, sink *catalog.Sink, tuples [][]string) error {
	text, err := json.Marshal(tuples)
	if err != nil {
		return fmt.Errorf("touch: %w", err)
	}
	var touched int64
	if err := db.QueryRow(ctx, "select freshet.touch_keys($1, $2::text::jsonb)", sink.ID, string(text)).Scan(&touched); err != nil {
		return fmt.Errorf("touch: %w", err)
	}
	return nil
}
