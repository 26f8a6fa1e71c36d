-- Whether the range of this lease may be worked on: 'go'; 'wait', while its lanes have not
-- written their control keys, which they do when nothing stands in the way of writing;
-- 'park', when somebody has to do something first; 'end', when its backfill is
-- cancelled or another range does it over again.
create or replace function freshet.backfill_turn(lease bigint)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when b.state = 'cancelled' or r.superseded then 'end'
        when s.state <> 'active' or s.broken is not null or b.state = 'paused' then 'park'
        when not lanes.stamped then 'wait'
        else 'go' end
    from freshet.backfill_range r
    join freshet.backfill_run b on b.id = r.run_id
    join freshet.lease l on l.id = r.lease_id
    join freshet.sink s on s.id = l.sink_id
    cross join lateral (
        select coalesce(pg_catalog.bool_and(a.stamped and a.blocked is null and a.blocked_by is null), false) as stamped
        from freshet.lease a
        where a.sink_id = l.sink_id and a.target = l.target and a.kind = 'sync') lanes
    where r.lease_id = backfill_turn.lease
$$;

revoke all on function freshet.backfill_turn(bigint) from public;
