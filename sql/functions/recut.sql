-- Gives a sink another number of shards, while it is written to. The definition is
-- raised, so that before anything is written by the new lanes every control key of the
-- old ones refuses whoever still works by it. Every new lane begins where the slowest of
-- the old ones is: what others had applied already is looked up once more.
create or replace function freshet.recut(sink integer, shards integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  record;
    v_lease   record;
begin
    update freshet.sink s
    set shards = recut.shards, definition = s.definition + 1, revision = s.revision + 1
    where s.id = recut.sink;

    -- In one order, like all who lock several.
    perform from freshet.lease l where l.sink_id = recut.sink and l.kind = 'sync' order by l.id for update;

    for v_target in
        select l.target, case when pg_catalog.bool_and(l.as_of is not null) then min(l.as_of) end as as_of,
               pg_catalog.bool_or(l.adopt) as adopt,
               (select (m.xmin || ':' || m.xmin || ':')::pg_catalog.pg_snapshot
                from (select min(pg_catalog.pg_snapshot_xmin(
                          pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot)::text::bigint) as xmin) m) as cursor
        from freshet.lease l
        where l.sink_id = recut.sink and l.kind = 'sync' and not l.closing
        group by l.target
    loop
        -- A lane that comes and goes: what the earlier one of its number may have
        -- written is this one's to answer for.
        update freshet.lease l
        set stamped = l.stamped or r.stamped, definition = least(l.definition, r.definition)
        from freshet.lease r
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards
          and r.sink_id = l.sink_id and r.kind = 'retired' and r.target = l.target and r.part = l.part;
        delete from freshet.lease r
        using freshet.lease l
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards
          and r.sink_id = l.sink_id and r.kind = 'retired' and r.target = l.target and r.part = l.part;
        -- Heartbeats under the old epoch no longer count.
        update freshet.lease l
        set kind = 'retired', epoch = l.epoch + 1, holder = null, finished_at = pg_catalog.clock_timestamp()
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards;

        insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
        select recut.sink, 'sync', v_target.target, p.shard::text, '', v_target.adopt
        from pg_catalog.generate_series(0, recut.shards - 1) as p (shard)
        on conflict do nothing;

        for v_lease in
            update freshet.lease l
            set cursor = v_target.cursor::text, passed = v_target.cursor, as_of = v_target.as_of, recut = true
            where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target
            returning l.id, l.epoch
        loop
            perform freshet.release_lease(v_lease.id, v_lease.epoch);
        end loop;
    end loop;
end
$$;

revoke all on function freshet.recut(integer, integer) from public;
