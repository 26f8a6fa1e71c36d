package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// any takes a sink for a fault.
func (r *run) any(draw *rand.Rand, of []sink) (sink, func()) {
	s := of[draw.IntN(len(of))]
	return s, r.alone("sink " + s.name)
}

func changeShards(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.sinks())
	defer release()
	n := 1 + draw.IntN(4)
	if ctx.Err() != nil {
		return "", nil
	}
	return fmt.Sprintf("%s has %d shards", s.name, n), r.insist(ctx, "select freshet.alter_sink($1, shards => $2)", s.name, n)
}

func pauseSink(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.sinks())
	defer release()
	away := seconds(draw, 0.5, 6)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.insist(ctx, "select freshet.pause_sink($1)", s.name); err != nil {
		return "", err
	}
	hold(ctx, away)
	return s.name + " paused and resumed", r.insist(ctx, "select freshet.resume_sink($1)", s.name)
}

func backfillSink(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.sinks())
	defer release()
	if ctx.Err() != nil {
		return "", nil
	}
	return s.name, r.insist(ctx, "select freshet.backfill($1)", s.name)
}

func sweepSink(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.sinks())
	defer release()
	if ctx.Err() != nil {
		return "", nil
	}
	return s.name, r.insist(ctx, "select freshet.sweep($1)", s.name)
}

func refreshEntry(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink people")()
	id := 1 + draw.IntN(2000)
	if ctx.Err() != nil {
		return "", nil
	}
	return fmt.Sprintf("people:%d", id), r.insist(ctx, "select freshet.refresh('people', $1::bigint)", id)
}

// changeValue has every entry of a sink made in another way.
func changeValue(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink cards")()
	n := draw.IntN(1000)
	if ctx.Err() != nil {
		return "", nil
	}
	value := fmt.Sprintf("jsonb_build_object('v', %d, 'who', name, 'visits', visits)", n)
	return fmt.Sprintf("cards of version %d", n), r.insist(ctx, "select freshet.alter_sink('cards', value => $1)", value)
}

// changeKey moves the entries of a sink to other keys.
func changeKey(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink labels")()
	if ctx.Err() != nil {
		return "", nil
	}
	var key string
	if err := r.ask(ctx, "select case when key like 'label:%' then 'lapel:' else 'label:' end || '${id}' from freshet.sinks where sink = 'labels'", nil, &key); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", nil
	}
	return "labels are at " + key, r.insist(ctx, "select freshet.alter_sink('labels', key => $1) where not exists (select from freshet.sinks where sink = 'labels' and key = $1)", key)
}

// dropSink drops a sink and makes it again as soon as its entries are gone.
func dropSink(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.droppable())
	defer release()
	away := seconds(draw, 0, 3)
	if ctx.Err() != nil {
		return "", nil
	}
	// Whether a statement whose connection was lost has done its work is asked, not guessed.
	err := r.insist(ctx, "select freshet.drop_sink($1) where exists (select from freshet.sinks where sink = $1 and state <> 'dropping')", s.name)
	if err != nil {
		return "", err
	}
	if err := r.awaitGone(ctx, s.name); err != nil {
		return "", err
	}
	hold(ctx, away)
	create := fmt.Sprintf("%s where not exists (select from freshet.sinks where sink = '%s')", s.creation(), s.name)
	return s.name + " dropped and made again", r.insist(ctx, create)
}

// awaitGone waits for a worker to remove a dropped sink's entries, however long the other
// faults take.
func (r *run) awaitGone(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		var there bool
		err := r.db.QueryRow(ctx, "select exists (select from freshet.sinks where sink = $1)", name).Scan(&there)
		if err == nil && !there {
			return nil
		}
		if err != nil && !passing(err) {
			return err
		}
		if hold(ctx, 100*time.Millisecond); ctx.Err() != nil {
			r.fail(fmt.Sprintf("%s was dropped and is there still after %s; %s", name, patience, r.status(context.WithoutCancel(ctx))))
			return ctx.Err()
		}
	}
}
