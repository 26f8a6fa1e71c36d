package integration

import (
	"fmt"
	"testing"
)

// Entries of which a whole batch, or chunk, takes longer than a statement may are made few at a time, by whoever
// goes on; and so are those that a sweep looks at.
func TestEntriesThatTakeLongAreMadeFewAtATime(t *testing.T) {
	t.Parallel()
	// 250 of them take more than 30 seconds, and 62 do not.
	const (
		groups  = 235
		slow    = 0.13
		promise = "select 'g:' || team, to_jsonb(count(*))::text from t group by team"
	)
	for _, c := range []struct {
		name, before, after, more string
	}{
		{name: "a batch", after: fmt.Sprintf("insert into t select g, g from generate_series(1, %d) g", groups), more: ", backfill => false"},
		{name: "a chunk", before: fmt.Sprintf("insert into t select g, g from generate_series(1, %d) g", groups)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(fmt.Sprintf(`create table t (id bigint primary key, team bigint not null); create index on t (team);
				create function slow(n bigint) returns jsonb immutable language plpgsql as 'begin perform pg_sleep(%g); return to_jsonb(n); end'`, slow))
			if c.before != "" {
				e.exec(c.before)
			}
			e.exec("select freshet.create_sink('t', 't', key => 'g:${team}', value => 'slow(count(*))'" + c.more + ")")
			if c.after != "" {
				e.exec(c.after)
			}
			e.start()
			e.await("it took too long", func() bool {
				return one[bool](e.admin(), "select exists (select from freshet.lease where last_error like '%statement timeout%')")
			})
			e.follow("g:*", promise)
		})
	}
}

func TestSweepOfEntriesThatTakeLong(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table speed (pause float8); insert into speed values (0); grant select on speed to public;
		create table t (id bigint primary key, team bigint not null); create index on t (team); insert into t select g, g from generate_series(1, 235) g;
		create function slow(n bigint) returns jsonb immutable language plpgsql as 'begin perform pg_sleep(pause) from speed; return to_jsonb(n); end'`)
	e.exec("select freshet.create_sink('t', 't', key => 'g:${team}', value => 'slow(count(*))')")
	e.start()
	e.settle()
	e.lastBackfill("t")
	// All of them together take more than 30 seconds.
	e.exec("update speed set pause = 0.13")
	if err := e.redis.Set(t.Context(), "g:9999", "orphan", 0).Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("select freshet.sweep('t')")
	e.await("the orphan is gone", func() bool { return e.redis.Exists(t.Context(), "g:9999").Val() == 0 })
}
