-- Like release_lease, for a range that nobody can work on for now: it gets no job before
-- that has changed.
create or replace function freshet.park_lease(lease bigint, epoch bigint)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    update freshet.lease l
    set epoch = l.epoch + 1,
        nonce = pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 16),
        holder = null,
        job_id = null,
        heartbeat_at = pg_catalog.clock_timestamp()
    where l.id = park_lease.lease and l.epoch = park_lease.epoch;
    if not found then
        return false;
    end if;
    update freshet.backfill_range r set parked = true where r.lease_id = park_lease.lease;
    return true;
end
$$;

revoke all on function freshet.park_lease(bigint, bigint) from public;
