-- Ends a slice of a lease: releases it, and offers a lane to a worker that has fewer. Left to
-- whoever comes first, it would mostly come back: the worker that gives it is the first to
-- hear of it.
create or replace function freshet.hand_over(lease bigint, epoch bigint, silence interval)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- One at a time, for each to see what was offered before; another slice will come.
    if pg_catalog.pg_try_advisory_xact_lock(1181905015) then
        update freshet.lease l
        set offered_to = freshet.lighter_worker(l.id, l.holder, silence)
        where l.id = hand_over.lease and l.epoch = hand_over.epoch and l.kind = 'sync';
    end if;
    return freshet.release_lease(lease, epoch);
end
$$;

revoke all on function freshet.hand_over(bigint, bigint, interval) from public;
