-- Ends the lanes of a target from which a purge has removed everything: from here on nothing
-- is written. False if the purge's lease is no longer held under `epoch`.
create or replace function freshet.end_lanes(lease bigint, epoch bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  freshet.lease;
begin
    select * into v_lease from freshet.lease l where l.id = end_lanes.lease and l.epoch = end_lanes.epoch and l.kind = 'purge';
    if not found then
        return false;
    end if;
    perform from freshet.lease l where l.sink_id = v_lease.sink_id and l.target = v_lease.target order by l.id for update;
    -- One of an earlier number of shards had the same control key.
    delete from freshet.lease r
    using freshet.lease l
    where r.sink_id = v_lease.sink_id and r.target = v_lease.target and r.kind = 'retired'
      and l.sink_id = r.sink_id and l.target = r.target and l.part = r.part and l.kind = 'sync' and l.closing;
    update freshet.lease l
    set kind = 'retired', epoch = l.epoch + 1, holder = null, finished_at = pg_catalog.clock_timestamp()
    where l.sink_id = v_lease.sink_id and l.target = v_lease.target and l.kind = 'sync' and l.closing;
    return true;
end
$$;

revoke all on function freshet.end_lanes(bigint, bigint) from public;
