package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// captured is where a sink's changes are captured at the moment.
type captured struct {
	source, segment int
	table           string
}

// anyCapture takes the capture of a sink for a fault. Nil: there is none just now.
func (r *run) anyCapture(ctx context.Context, draw *rand.Rand) (*captured, func(), error) {
	list := r.sinks()
	s := list[draw.IntN(len(list))]
	release := r.alone("capture of " + s.table())
	if s.fixed {
		// Maybe its columns are just being changed.
		capture, form := release, r.alone("sink "+s.name)
		release = func() { form(); capture() }
	}
	var c captured
	err := r.ask(ctx, `
		select o.id, o.segment, o.relid::regclass::text
		from freshet.source o
		where o.relid = to_regclass($1) and exists (select from freshet.sink k where k.source_id = o.id and k.state <> 'dropping')`,
		[]any{s.table()}, &c.source, &c.segment, &c.table)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, release, nil
	}
	return &c, release, err
}

// unseen are statements that change a table in a way that only its triggers tell of. Where
// a table has partitions they go to one of them.
func unseen(table string, n int) (leaf, sql string) {
	sf := fmt.Sprintf
	switch table {
	case "people":
		return table, sf("update people set name = 'unseen %d', visits = visits + 1 where id %% 50 = %d; update people set email = email || '-' where id = %d and length(email) < 60", n, n%50, n%2000)
	case "items":
		return table, sf("update items set note = 'unseen %d' where n %% 40 = %d; delete from items where n %% 90 = %d", n, n%40, n%90)
	case "orders":
		return "orders_1", sf("update orders_1 set state = 'unseen' where id %% 40 = %d; delete from orders_1 where id %% 90 = %d", n%40, n%90)
	case "prices":
		return table, sf("update prices set note = 'unseen %d' where sku < %d; delete from prices where sku = %d / 10.0", n, n%30, n%300)
	case "notes":
		return table, sf("update notes set body = 'unseen' where n %% 20 = %d; delete from notes where n %% 30 = %d; insert into notes (n) values (%d)", n%20, n%30, n%500)
	case "sessions":
		return table, sf("update sessions set data = 'unseen' where id %% 20 = %d; delete from sessions where id %% 30 = %d", n%20, n%30)
	case "events":
		return table, sf("update events set kind = (kind + 1) %% 5 where id %% 20 = %d; delete from events where id %% 30 = %d", n%20, n%30)
	case "hot":
		return table, "update hot set version = version + 1000"
	case "canary":
		return table, "update canary set mark = mark"
	case "shapes":
		return table, sf("update shapes set n = -1 where id %% 20 = %d; delete from shapes where id %% 30 = %d", n%20, n%30)
	case "readings":
		return "readings_1", sf("update readings_1 set body = 'unseen' where id %% 20 = %d; delete from readings_1 where id %% 30 = %d", n%20, n%30)
	case "catalogue":
		return table, sf("update catalogue set name = 'unseen' where id %% 20 = %d; delete from catalogue where id %% 30 = %d", n%20, n%30)
	case "ratios":
		return table, sf("update ratios set note = 'unseen' where id %% 20 = %d; delete from ratios where id %% 30 = %d", n%20, n%30)
	case "pgbench_accounts":
		return table, sf("update pgbench_accounts set abalance = 0 where aid %% 100 = %d; delete from pgbench_accounts where aid %% 900 = %d", n%100, n%900)
	case "pgbench_tellers":
		return table, "update pgbench_tellers set tbalance = 0"
	case "pgbench_branches":
		return table, "update pgbench_branches set bbalance = 0"
	}
	panic("no statement for " + table)
}

// plantError makes every trigger that writes to the present segment fail for a while.
func plantError(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	away := seconds(draw, 0.3, 4)
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	segment := fmt.Sprintf("freshet.changes_%d_%d", c.source, c.segment)
	err = r.ensure(ctx, fmt.Sprintf("to_regclass('%[1]s') is not null and not exists (select from pg_trigger where tgrelid = to_regclass('%[1]s') and tgname = 'planted')", segment),
		fmt.Sprintf("create trigger planted before insert on %s for each row execute function public.planted()", segment))
	if err != nil {
		return "", err
	}
	hold(ctx, away)
	err = r.ensure(ctx, fmt.Sprintf("exists (select from pg_trigger where tgrelid = to_regclass('%s') and tgname = 'planted')", segment),
		"drop trigger planted on "+segment)
	return "an error planted in the trigger path of " + c.table, err
}

func dropChangeTable(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	return "the change table of " + c.table + " dropped", r.ensure(ctx, "true", fmt.Sprintf("drop table if exists freshet.changes_%d cascade", c.source))
}

func dropSegment(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	return fmt.Sprintf("segment %d of %s dropped", c.segment, c.table), r.ensure(ctx, "true", fmt.Sprintf("drop table if exists freshet.changes_%d_%d", c.source, c.segment))
}

// disableTriggers changes rows in a transaction that disables the triggers and enables
// them again; what is left of it afterwards is that they are no longer enabled always.
func disableTriggers(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	n := draw.IntN(1 << 20)
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	leaf, sql := unseen(c.table, n)
	return "rows of " + leaf + " changed while its triggers were disabled", r.ensure(ctx, "to_regclass('"+leaf+"') is not null",
		fmt.Sprintf("alter table %[1]s disable trigger user; %[2]s; alter table %[1]s enable trigger user", leaf, sql))
}

func dropTriggerFunction(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	n := draw.IntN(1 << 20)
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	leaf, sql := unseen(c.table, n)
	return "the trigger function of " + c.table + " dropped", r.ensure(ctx, "to_regclass('"+leaf+"') is not null",
		fmt.Sprintf("drop function if exists freshet.capture_%d cascade; %s", c.source, sql))
}

// loadAsReplica writes as a restore or a subscription does, under which ordinary triggers
// do not fire.
func loadAsReplica(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	c, release, err := r.anyCapture(ctx, draw)
	defer release()
	n := draw.IntN(1 << 20)
	if err != nil || c == nil || ctx.Err() != nil {
		return "", err
	}
	leaf, sql := unseen(c.table, n)
	return "a load into " + leaf + " with session_replication_role = replica", r.ensureOn(ctx, r.super, "to_regclass('"+leaf+"') is not null",
		"perform set_config('session_replication_role', 'replica', true); "+sql+"; perform set_config('session_replication_role', 'origin', true)")
}
