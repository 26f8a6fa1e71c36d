package main

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// hasColumn is a condition for ensure.
func hasColumn(table, column string) string {
	return fmt.Sprintf("exists (select from pg_attribute where attrelid = to_regclass('%s') and attname = '%s' and not attisdropped)", table, column)
}

// changeColumns alters the table that is there for it, and sets right again what its
// writers need.
func changeColumns(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink shapes")()
	kind, number, away := draw.IntN(9), draw.IntN(1000), seconds(draw, 0.1, 4)
	if ctx.Err() != nil {
		return "", nil
	}
	// Another form for a while.
	forAWhile := func(there, change, since, back string) error {
		if err := r.ensure(ctx, there, change); err != nil {
			return err
		}
		hold(ctx, away)
		return r.ensure(ctx, since, back)
	}
	ofType := func(column, name string) string {
		return fmt.Sprintf("(select atttypid = '%s'::regtype from pg_attribute where attrelid = to_regclass('shapes') and attname = '%s')", name, column)
	}
	switch kind {
	case 0:
		column := fmt.Sprintf("added_%d", number)
		return "a column added", r.ensure(ctx, "not "+hasColumn("shapes", column), fmt.Sprintf("alter table shapes add column %s text default 'not to be seen'", column))
	case 1:
		return "a column dropped", r.ensure(ctx, "true", fmt.Sprintf("alter table shapes drop column if exists spare_%d", 1+number%5))
	case 2:
		return "a column renamed and renamed back", forAWhile(
			hasColumn("shapes", "label"), "alter table shapes rename column label to title",
			hasColumn("shapes", "title"), "alter table shapes rename column title to label")
	case 3:
		return "a column made text and integer again", forAWhile(
			ofType("size", "integer"), "alter table shapes alter column size type text using size || ' cm'",
			ofType("size", "text"), "alter table shapes alter column size type integer using split_part(size, ' ', 1)::integer")
	case 4:
		return "the key column renamed and renamed back", forAWhile(
			hasColumn("shapes", "id"), "alter table shapes rename column id to ident",
			hasColumn("shapes", "ident"), "alter table shapes rename column ident to id")
	case 5:
		return "the key column made text and bigint again", forAWhile(
			ofType("id", "bigint"), "alter table shapes alter column id type text using id::text",
			ofType("id", "text"), "alter table shapes alter column id type bigint using id::bigint")
	case 6:
		return "a column given other values of its type", r.ensure(ctx, "true", "alter table shapes alter column n type integer using n + 1000 % 7777")
	case 7:
		labelled := func(label string) string {
			return fmt.Sprintf("exists (select from pg_enum where enumtypid = to_regtype('shade') and enumlabel = '%s')", label)
		}
		return "a value of an enum renamed and renamed back", forAWhile(
			labelled("dark"), "alter type shade rename value 'dark' to 'black'",
			labelled("black"), "alter type shade rename value 'black' to 'dark'")
	default:
		return "the primary key dropped and made again", forAWhile(
			"exists (select from pg_constraint where conrelid = to_regclass('shapes') and contype = 'p')", "alter table shapes drop constraint shapes_pkey",
			"not exists (select from pg_constraint where conrelid = to_regclass('shapes') and contype = 'p')",
			// Meanwhile nothing kept out what is there twice.
			"delete from shapes s where exists (select from shapes o where o.id = s.id and o.ctid > s.ctid); alter table shapes add primary key (id)")
	}
}

// isLeaf is a condition for ensure.
func isLeaf(leaf string) string {
	return fmt.Sprintf("exists (select from pg_inherits where inhrelid = to_regclass('%s'))", leaf)
}

// changeLeaves does to partitions what fires no trigger of the table's.
func changeLeaves(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink readings")()
	kind, slot, number, away := draw.IntN(4), draw.IntN(4), draw.IntN(1000), seconds(draw, 0.1, 4)
	leaf := fmt.Sprintf("readings_%d", slot)
	if ctx.Err() != nil {
		return "", nil
	}
	switch kind {
	case 0:
		return leaf + " truncated by itself", r.ensure(ctx, "true", "truncate "+leaf)
	case 1:
		if err := r.ensure(ctx, isLeaf(leaf), "alter table readings detach partition "+leaf); err != nil {
			return "", err
		}
		err := r.ensure(ctx, "not "+isLeaf(leaf), fmt.Sprintf("update %s set body = 'while away %d' where id %% 3 = 0; delete from %s where id %% 20 = 0", leaf, number, leaf))
		if err != nil {
			return "", err
		}
		hold(ctx, away)
		return leaf + " detached, changed and attached again", r.ensure(ctx, "not "+isLeaf(leaf), fmt.Sprintf("alter table readings attach partition %s for values in (%d)", leaf, slot))
	case 2:
		if err := r.ensure(ctx, "true", "drop table if exists "+leaf); err != nil {
			return "", err
		}
		hold(ctx, away)
		return leaf + " dropped and made again", r.ensure(ctx, "to_regclass('"+leaf+"') is null", fmt.Sprintf(
			"create table %[1]s partition of readings for values in (%[2]d); insert into readings select g * 4 + %[2]d, %[2]d, 'made again' from generate_series(1, 200) g", leaf, slot))
	default:
		err := r.ensure(ctx, "to_regclass('readings_more') is null", fmt.Sprintf(
			"create table readings_more (body text not null default 'x', slot integer not null, id bigint not null, primary key (id, slot)); "+
				"insert into readings_more (id, slot, body) select g, 10, 'filled %d' from generate_series(1, 300) g; "+
				"alter table readings attach partition readings_more for values in (10)", number))
		if err != nil {
			return "", err
		}
		hold(ctx, away)
		return "a partition attached with rows, and dropped", r.ensure(ctx, "true", "drop table if exists readings_more")
	}
}

// swapTables has another table take the name of the source, as a blue-green load does.
func swapTables(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink catalogue")()
	number := draw.IntN(1000)
	if ctx.Err() != nil {
		return "", nil
	}
	err := r.ensure(ctx, "to_regclass('catalogue_old') is null", fmt.Sprintf(
		"create table catalogue_new (n integer not null default 0, extra text default 'not to be seen', name text, id bigint primary key); "+
			"lock table catalogue in share row exclusive mode; "+
			"insert into catalogue_new (id, name, n) select id, case when id %% 2 = 0 then 'swapped %[1]d' else name end, n from catalogue where id %% 7 <> %[1]d %% 7; "+
			"alter table catalogue rename to catalogue_old; alter table catalogue_new rename to catalogue", number))
	if err != nil {
		return "", err
	}
	return "catalogue swapped with another table", r.ensure(ctx, "true", "drop table if exists catalogue_old")
}

// dropTable takes a source away for a while.
func dropTable(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink catalogue")()
	away := seconds(draw, 0, 4)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.ensure(ctx, "true", "drop table if exists catalogue"); err != nil {
		return "", err
	}
	hold(ctx, away)
	return "catalogue dropped and made again", r.ensure(ctx, "to_regclass('catalogue') is null",
		"create table catalogue (id bigint primary key, n integer not null default 0, name text); insert into catalogue (id, name) select g, 'made again' from generate_series(100, 500) g")
}

// reloads are sources that a fault may truncate, and how they get rows again.
var reloads = []struct{ truncate, load string }{
	{"truncate people cascade", "insert into people (id, email, name) select g, 'again' || g || '@x.org', 'again' from generate_series(1, 2000) g on conflict do nothing; " +
		"insert into items select g, g, 'again' from people p cross join lateral (select p.id as g) x where p.id <= 2000 on conflict do nothing"},
	{"truncate orders", "insert into orders (id, day, person) select g, date '2026-01-01' + g % 80, g % 2000 from generate_series(1, 2500) g on conflict do nothing"},
	{"truncate prices", "insert into prices select g / 10.0, 'r:' || r, g, 'again' from generate_series(1, 300) g, generate_series(1, 3) r on conflict do nothing"},
	{"truncate shapes", "insert into shapes (id, n) select g, g from generate_series(1, 500) g on conflict do nothing"},
	{"truncate readings", "insert into readings select g, g % 4 from generate_series(1, 800) g on conflict do nothing"},
	{"truncate hot", "insert into hot select g from generate_series(1, 8) g on conflict do nothing"},
}

func truncateSource(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("sink shapes")()
	defer r.alone("sink readings")()
	one, away := reloads[draw.IntN(len(reloads))], seconds(draw, 0, 3)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.ensure(ctx, "true", one.truncate); err != nil {
		return "", err
	}
	hold(ctx, away)
	return one.truncate + ", and loaded again", r.ensure(ctx, "true", one.load)
}
