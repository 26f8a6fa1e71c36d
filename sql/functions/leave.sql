-- Says that a worker is gone. What was offered to it goes to others.
create or replace function freshet.leave(worker text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease record;
begin
    delete from freshet.worker w where w.id = leave.worker;
    for v_lease in
        select l.id, l.epoch from freshet.lease l
        where l.offered_to = leave.worker and l.holder is null and l.finished_at is null
        order by l.id
        for update skip locked
    loop
        perform freshet.release_lease(v_lease.id, v_lease.epoch, '0');
    end loop;
end
$$;

revoke all on function freshet.leave(text) from public;
