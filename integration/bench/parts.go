package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	partsRows    = 100_000
	partsUpdates = 20_000
)

// parts are triggers that do one thing more each of what capture does, until they do all that has to be done for an update of
// one row. What comes on top in Freshet's own is for all the other cases.
var parts = []struct{ name, says, clauses, body string }{
	{"nothing", "a trigger that does nothing", "", "begin return null; end"},
	{"insert", "and one insert of the row's key", "", "begin " + partsInsert + " return null; end"},
	{"both", "and of the key that it had before", "", "begin " + partsInsertBoth + " return null; end"},
	{"rights", "and with the rights and the search path of its owner", partsClauses, "begin " + partsInsertBoth + " return null; end"},
	{"guard", "and an error is no error of the writer's", partsClauses, "begin begin " + partsInsertBoth + " return null; exception when others then null; end; return null; end"},
	{"bell", "and knows whether a worker sleeps, how old the transaction is and how much room there is", partsClauses, `begin
		if clock_timestamp() < current_timestamp + interval '0.5 milliseconds' then
			begin
				if pg_sequence_last_value('public.parts_id') < 1000000000 and pg_try_advisory_xact_lock_shared(1181905011, 1000000) then
					` + partsInsertBoth + ` return null;
				end if;
			exception when others then null; end;
		end if;
		return null; end`},
}

const (
	partsInsert     = "insert into public.parts_log (op, k1) select 'u', n.id from n;"
	partsInsertBoth = "insert into public.parts_log (op, k1, o1) select 'u', n.id, nullif((select o.id from o), n.id) from n;"
	partsClauses    = "security definer set search_path = pg_catalog, pg_temp set exit_on_error = off"
)

// overheadParts is where the time goes that capture adds to an update of one row, in microseconds of the writer's own backend: it commits each by
// itself in a loop of its own, without a client, and does not wait for the disk.
func overheadParts(ctx context.Context, s *stage) ([]result, error) {
	tables := []string{bare, captured}
	if err := s.exec(ctx, `drop table if exists parts_log; drop sequence if exists parts_id; create sequence parts_id cache 100;
		create table parts_log (id bigint not null default nextval('parts_id'), xid xid8 not null default pg_current_xact_id(),
			at timestamptz not null default current_timestamp, op "char" not null, tuples smallint, k1 bigint, o1 bigint, k1s bigint[]);
		create index on parts_log (xid, id)`); err != nil {
		return nil, err
	}
	for _, p := range parts {
		tables = append(tables, "part_"+p.name)
	}
	for _, table := range tables {
		if err := s.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s;
			create table %[1]s (id bigint primary key, balance integer not null, filler char(84) not null default '') with (fillfactor = 80, autovacuum_enabled = off);
			insert into %[1]s select g, 0 from generate_series(1, %[2]d) g`, table, s.rows(partsRows))); err != nil {
			return nil, err
		}
	}
	for _, p := range parts {
		if err := s.exec(ctx, fmt.Sprintf(`create or replace function part_%[1]s() returns trigger language plpgsql %[2]s as $part$ %[3]s $part$;
			create trigger part after update on part_%[1]s referencing old table as o new table as n for each statement execute function part_%[1]s()`,
			p.name, p.clauses, p.body)); err != nil {
			return nil, err
		}
	}
	if err := s.exec(ctx, "select freshet.create_sink('captured', 'captured', backfill => false)"); err != nil {
		return nil, err
	}
	took, err := s.timeParts(ctx, tables)
	if err != nil {
		return nil, err
	}
	list := []result{took[bare].judged("overhead_parts_none", "µs", "", nil)}
	for _, p := range parts {
		list = append(list, took["part_"+p.name].beside("overhead_parts_"+p.name, "µs", p.says+"; without a trigger", took[bare], "", nil))
	}
	return append(list, took[captured].beside("overhead_parts_freshet", "µs", "all of Freshet's; without a trigger", took[bare], "", nil)), nil
}

// timeParts is how many microseconds an update of each table takes. The tables come in another order in each round.
func (s *stage) timeParts(ctx context.Context, tables []string) (map[string]series, error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "set synchronous_commit = off"); err != nil {
		return nil, err
	}
	took := make(map[string]series)
	updates := s.rows(partsUpdates)
	for round := range s.rounds {
		for i := range tables {
			table := tables[(i+round)%len(tables)]
			begin := time.Now()
			if _, err := conn.Exec(ctx, fmt.Sprintf(`do $$ begin
				for i in 1..%[2]d loop
					update %[1]s set balance = balance + 1 where id = (i::bigint * 7919 + %[3]d) %% %[4]d + 1;
					commit;
				end loop; end $$`, table, updates, round, s.rows(partsRows))); err != nil {
				return nil, fmt.Errorf("update %s: %w", table, err)
			}
			took[table] = append(took[table], float64(time.Since(begin).Microseconds())/float64(updates))
		}
		s.say("  round %d: without a trigger %.1f µs, with all of Freshet's %.1f", round+1, took[bare][round], took[captured][round])
	}
	return took, nil
}
