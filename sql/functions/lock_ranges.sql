-- Locks the leases of a sink's backfills, in one order, for whoever changes their ranges: a
-- worker that records a chunk locks its lease first and the range next, and a range refers to
-- its lease.
create or replace function freshet.lock_ranges(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from freshet.lease l where l.sink_id = lock_ranges.sink and l.kind = 'backfill' order by l.id for key share;
end
$$;

revoke all on function freshet.lock_ranges(integer) from public;
