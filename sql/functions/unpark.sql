-- Enqueues the parked ranges that can be worked on again: of these backfills, or of all.
create or replace function freshet.unpark(runs bigint[] default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    for v_lease in
        select l.id
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.parked and (runs is null or r.run_id = any (runs)) and freshet.backfill_turn(r.lease_id) in ('go', 'end')
        order by l.id
        for update of l skip locked
    loop
        update freshet.backfill_range r set parked = false where r.lease_id = v_lease and r.parked;
        if found then
            perform freshet.enqueue_lease(v_lease);
        end if;
    end loop;
end
$$;

revoke all on function freshet.unpark(bigint[]) from public;
