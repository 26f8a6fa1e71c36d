package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// backlogs are sources that a statement can make many changes of, with one of their sinks.
var backlogs = []struct{ sink, statement string }{
	{"people", "update people set visits = visits + 1"},
	{"members", "update people set visits = visits + 1"},
	{"open_orders", "update orders set total = total + 1"},
	{"prices", "update prices set price = price + 1"},
	{"events", "update events set body = body || '.' where length(body) < 50"},
	{"shapes", "update shapes set n = n + 1"},
	{"catalogue", "update catalogue set n = n + 1"},
}

// lapseSink pauses a sink until its backlog is let go.
func lapseSink(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	b, away := backlogs[draw.IntN(len(backlogs))], seconds(draw, 0, 8)
	defer r.alone("sink " + b.sink)()
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.insist(ctx, "select freshet.alter_sink($1, max_pending => 1000)", b.sink); err != nil {
		return "", err
	}
	if err := r.insist(ctx, "select freshet.pause_sink($1)", b.sink); err != nil {
		return "", err
	}
	var lapsed bool
	for until := time.Now().Add(20 * time.Second); ctx.Err() == nil && !lapsed && time.Now().Before(until); hold(ctx, time.Second) {
		if err := r.ensure(ctx, "true", b.statement); err != nil {
			return "", err
		}
		if err := r.ask(ctx, "select exists (select from freshet.status where sink = $1 and state = 'lapsed')", []any{b.sink}, &lapsed); err != nil {
			return "", err
		}
	}
	if lapsed {
		r.note(func() { r.Lapsed++ })
		hold(ctx, away) // change tables are emptied without it
	}
	if err := r.insist(ctx, "select freshet.resume_sink($1)", b.sink); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s paused until its limit (lapsed: %v)", b.sink, lapsed), r.insist(ctx, "select freshet.alter_sink($1, reset => '{max_pending}')", b.sink)
}

// rewarmSlowly makes a sink lose its control keys while re-warms are held back.
func rewarmSlowly(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	s, release := r.any(draw, r.sinks())
	defer release()
	defer r.alone("redis")()
	rate, away := 100+draw.IntN(2000), seconds(draw, 1, 8)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.insist(ctx, "select freshet.alter_sink($1, max_rate => $2)", s.name, rate); err != nil {
		return "", err
	}
	var id int
	if err := r.ask(ctx, "select id from freshet.sink where name = $1", []any{s.name}, &id); err != nil {
		return "", err
	}
	err := r.insistRedis(ctx, func(ctx context.Context, _ *redis.Client) error {
		for name, c := range r.caches {
			if !slices.Contains(s.targets, name) {
				continue
			}
			for shard := range 4 {
				if err := c.Del(ctx, fmt.Sprintf("freshet:%s:%d:%d", r.installation, id, shard)).Err(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	hold(ctx, away)
	return fmt.Sprintf("%s warmed again at %d rows a second", s.name, rate), r.insist(ctx, "select freshet.alter_sink($1, reset => '{max_rate}')", s.name)
}

// failEntries has a filter raise an error for some rows, by what is in them or by a
// function that it calls.
func failEntries(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink ratios")()
	byRow, n, away := draw.IntN(2) == 0, draw.IntN(1000), seconds(draw, 0.2, 5)
	if ctx.Err() != nil {
		return "", nil
	}
	steady := "create or replace function steady(n integer) returns integer language plpgsql immutable as $$ begin %sreturn n; end $$"
	if byRow {
		if err := r.ensure(ctx, "true", fmt.Sprintf("update ratios set b = 0 where id %% 25 = %d", n%25)); err != nil {
			return "", err
		}
		hold(ctx, away)
		return "rows whose filter divides by zero, and then does not", r.ensure(ctx, "true", "update ratios set b = 2 where b = 0")
	}
	broken := fmt.Sprintf("if n %% 20 = %d then raise exception 'not %%', n; end if; ", n%20)
	if err := r.ensure(ctx, "true", fmt.Sprintf(steady, broken)+"; update ratios set note = 'touched' where id % 2 = 0"); err != nil {
		return "", err
	}
	hold(ctx, away)
	return "a function of a filter that raises an error, and then does not", r.ensure(ctx, "true", fmt.Sprintf(steady, ""))
}
