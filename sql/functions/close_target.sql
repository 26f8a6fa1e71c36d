-- Has a sink's entries removed from one target while its source is written to. Its lanes go
-- on, and remove the entry of each tuple that changes: so whatever is still there is right.
-- Meanwhile a purge removes everything, and then ends the lanes. Who calls it raises the
-- sink's definition.
create or replace function freshet.close_target(sink integer, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  record;
begin
    -- In one order, like all who lock several.
    perform from freshet.lease l where l.sink_id = close_target.sink and l.target = close_target.target order by l.id for update;
    update freshet.backfill_range r set superseded = true
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = close_target.sink and l.target = close_target.target and r.finished_at is null;
    perform freshet.unpark((
        select pg_catalog.array_agg(distinct r.run_id)
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where l.sink_id = close_target.sink and l.target = close_target.target and r.parked));
    delete from freshet.lease l
    where l.sink_id = close_target.sink and l.target = close_target.target and l.kind = 'sweep' and l.finished_at is null;
    perform freshet.finish_sweeps(close_target.sink);
    delete from freshet.failure f where f.sink_id = close_target.sink and f.target = close_target.target;
    for v_lease in
        update freshet.lease l
        set closing = true, adopt = false, lapsed = false
        where l.sink_id = close_target.sink and l.target = close_target.target and l.kind = 'sync'
        returning l.id, l.epoch
    loop
        perform freshet.release_lease(v_lease.id, v_lease.epoch);
    end loop;
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (close_target.sink, 'purge', close_target.target, 'purge', '')
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease.id);
end
$$;

revoke all on function freshet.close_target(integer, text) from public;
