-- Notes that a lease's control key is about to be written for the first time, under this
-- definition of its sink. False if the lease has passed on, or the sink was redefined:
-- whoever redefines it looks only at the control keys that were noted by then.
create or replace function freshet.stamp_lease(lease bigint, epoch bigint, definition integer)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from freshet.sink s
    where s.id = (select l.sink_id from freshet.lease l where l.id = stamp_lease.lease)
      and s.definition = stamp_lease.definition
    for share;
    if not found then
        return false;
    end if;
    update freshet.lease l
    set stamped = true, definition = stamp_lease.definition
    where l.id = stamp_lease.lease and l.epoch = stamp_lease.epoch;
    return found;
end
$$;

revoke all on function freshet.stamp_lease(bigint, bigint, integer) from public;
