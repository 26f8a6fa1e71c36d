package upkeep

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// source is one to look after.
type source struct {
	id int32
	// name is that of its table, with the schema.
	name  string
	mends bool
	// unmended: it could not be mended when that was last tried, by whomever.
	unmended bool
	// rotates: it is time, and there is something to do.
	rotates bool
	// err is why nothing of this is known.
	err error
}

// name is the one that s is known by.
const name = "s.schema_name || '.' || s.table_name"

// lookPatience is what a look waits for somebody who has locked a table or a partition.
const lookPatience = "500ms"

// ask asks which sources need mending, or rotation if it is time, in one statement for all of
// them that a condition chooses, whose parameters are numbered from $3.
func ask(ctx context.Context, pool *pgxpool.Pool, rotate bool, condition string, args ...any) ([]source, error) {
	rows, err := pool.Query(ctx, `
		with patience as materialized (select set_config('lock_timeout', $2, true))
		select s.id, `+name+`, freshet.needs_mending(s.id), s.mend_error is not null, $1 and freshet.needs_rotation(s.id)
		from patience cross join freshet.source s where s.relid is not null `+condition+" order by s.id",
		append([]any{rotate, lookPatience}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (source, error) {
		var s source
		return s, row.Scan(&s.id, &s.name, &s.mends, &s.unmended, &s.rotates)
	})
}

// askEach asks about each source by itself, for what one is locked by, or fails for, is no reason to
// leave the others. One that is locked is looked at when it no longer is: until then nothing of it
// can be mended.
func askEach(ctx context.Context, pool *pgxpool.Pool, rotate bool) ([]source, error) {
	rows, err := pool.Query(ctx, "select s.id, "+name+" from freshet.source s where s.relid is not null order by s.id")
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (source, error) {
		var s source
		return s, row.Scan(&s.id, &s.name)
	})
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, s := range all {
		found, err := ask(ctx, pool, rotate, "and s.id = $3", s.id)
		if s.err = err; err != nil {
			found = []source{s}
		}
		sources = append(sources, found...)
	}
	return sources, nil
}
