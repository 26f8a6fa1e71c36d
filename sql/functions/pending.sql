-- How many captured changes a lane has not passed, counted up to a limit; of many that share a
-- row of the change table, each.
create or replace function freshet.pending(source integer, passed pg_snapshot, up_to bigint default 10000)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_pending  bigint;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        return 0;
    end if;
    execute pg_catalog.format(
        'select least(coalesce(sum(coalesce(bounded.tuples, 1)), 0), $2) '
        'from (select c.tuples from freshet.window_ranges($1, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select c.tuples from freshet.%I c where c.xid between r.lo and r.hi limit $2) c limit $2) as bounded',
        'changes_' || source)
    into v_pending
    using passed, up_to;
    return v_pending;
end
$$;

revoke all on function freshet.pending(integer, pg_snapshot, bigint) from public;
