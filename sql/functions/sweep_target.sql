-- Asks for a sweep of a sink on one target that runs once its lanes there have passed `after`.
-- A sweep that waits for them takes the wish over; one that has begun may have looked already.
create or replace function freshet.sweep_target(sink integer, target text, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    update freshet.lease l
    set cursor = after::text
    where l.sink_id = sweep_target.sink and l.kind = 'sweep' and l.target = sweep_target.target
      and not l.begun and l.finished_at is null
      and freshet.snapshot_covers(after, l.cursor::pg_snapshot);
    if found then
        return;
    end if;

    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (sweep_target.sink, 'sweep', sweep_target.target,
            's' || pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 12), after::text)
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease);
end
$$;

revoke all on function freshet.sweep_target(integer, text, pg_snapshot) from public;
