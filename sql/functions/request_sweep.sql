-- Asks for a sweep of a sink that runs once its lanes have passed `after`. A sweep
-- that nobody has begun takes the wish over; one that runs may have looked already.
create or replace function freshet.request_sweep(sink integer, after pg_snapshot)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_target  text;
    v_lease   bigint;
begin
    for v_target in
        select t.target from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = request_sweep.sink
    loop
        update freshet.lease l
        set cursor = after::text
        where l.sink_id = request_sweep.sink and l.kind = 'sweep' and l.target = v_target
          and l.holder is null and l.finished_at is null
          and freshet.snapshot_covers(after, l.cursor::pg_snapshot);
        continue when found;

        insert into freshet.lease (sink_id, kind, target, part, cursor)
        values (request_sweep.sink, 'sweep', v_target,
                's' || pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 12), after::text)
        returning id into v_lease;
        perform freshet.enqueue_lease(v_lease);
    end loop;
end
$$;

revoke all on function freshet.request_sweep(integer, pg_snapshot) from public;
