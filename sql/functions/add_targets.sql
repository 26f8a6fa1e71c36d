-- Gives a backfill of everything ranges on the targets that its sink has got since. Who calls it holds
-- the sink locked.
create or replace function freshet.add_targets(run bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select freshet.add_range(b.id, t.target, null, null)
    from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id cross join lateral pg_catalog.unnest(s.targets) as t (target)
    where b.id = add_targets.run and not exists (
        select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = b.id and l.target = t.target and not r.superseded)
$$;

revoke all on function freshet.add_targets(bigint) from public;
