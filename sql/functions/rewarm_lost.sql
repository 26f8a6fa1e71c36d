-- Asks for a re-warm and a sweep because a target has lost what the range of this lease
-- had written. Every lane of the sink finds that out; the first one asks.
create or replace function freshet.rewarm_lost(lease bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  integer := (select l.sink_id from freshet.lease l where l.id = rewarm_lost.lease);
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = v_sink for update;
    if not exists (
        select from freshet.backfill_range r where r.lease_id = rewarm_lost.lease and r.finished_xid is not null)
    then
        return false;
    end if;
    perform freshet.request_rewarm(v_sink);
    perform freshet.request_sweep(v_sink, pg_catalog.pg_current_snapshot());
    return true;
end
$$;

revoke all on function freshet.rewarm_lost(bigint) from public;
