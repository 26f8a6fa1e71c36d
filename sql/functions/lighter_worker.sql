-- The worker that a lane had better go to: of those that are alive and could serve it, and have
-- at least two lanes less than `worker`, which holds it, the one with the fewest. Lanes count
-- for whom they are held by or on their way to.
create or replace function freshet.lighter_worker(lease bigint, worker text, silence interval)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with load as (
            select coalesce(o.holder, o.offered_to) as worker, count(*) as lanes
            from freshet.lease o
            where o.kind = 'sync' and o.finished_at is null
            group by 1)
        select w.id
        from freshet.lease l
        join freshet.sink s on s.id = l.sink_id
        cross join freshet.function_for(s, l) as n (function)
        join freshet.worker w on w.id <> lighter_worker.worker and w.heartbeat_at > pg_catalog.clock_timestamp() - silence
            and l.target = any (w.targets) and (n.function is null or n.function = any (w.transforms))
        left join load a on a.worker = w.id
        where l.id = lighter_worker.lease and l.kind = 'sync'
          and coalesce(a.lanes, 0) + 2 <= (select b.lanes from load b where b.worker = lighter_worker.worker)
        order by a.lanes nulls first, w.id
        limit 1);
end
$$;

revoke all on function freshet.lighter_worker(bigint, text, interval) from public;
