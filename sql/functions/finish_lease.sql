-- Ends the work of a lease for good. The last range of a backfill completes it; the
-- last purge of a sink removes the sink. False if `epoch` is over.
create or replace function freshet.finish_lease(lease bigint, epoch bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Whoever holds the sink for long must not hold up the worker's heartbeat by the lease.
set lock_timeout = '1s'
as $$
declare
    v_lease  freshet.lease;
    v_run    bigint;
begin
    -- The end of a sink is the end of all its leases: locked in one order.
    perform from freshet.lease l
    where l.sink_id = (select p.sink_id from freshet.lease p where p.id = finish_lease.lease and p.kind = 'purge')
    order by l.id
    for update;
    update freshet.lease l
    set finished_at = pg_catalog.clock_timestamp(), holder = null
    where l.id = finish_lease.lease and l.epoch = finish_lease.epoch
    returning * into v_lease;
    if not found then
        return false;
    end if;

    if v_lease.kind = 'backfill' then
        -- Sink first, then run, like request_backfill and alter_sink.
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        update freshet.backfill_range r
        set finished_at = pg_catalog.clock_timestamp(),
            -- One that was cancelled before it began has written nothing that could be lost.
            finished_xid = case when v_lease.stamped then pg_catalog.pg_current_xact_id() end,
            finished_in = freshet.incarnation()
        where r.lease_id = v_lease.id
        returning r.run_id into v_run;
        -- Two ranges that end at once must not each take the other for unfinished.
        perform from freshet.backfill_run b where b.id = v_run for update;
        if not exists (select from freshet.backfill_range r where r.run_id = v_run and r.finished_at is null) then
            perform freshet.finish_backfill(v_run);
        end if;

    elsif v_lease.kind = 'sweep' then
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        perform freshet.finish_sweeps(v_lease.sink_id);

    elsif v_lease.kind = 'purge' then
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        delete from freshet.removed r where r.removed_at < pg_catalog.clock_timestamp() - interval '30 days';
        insert into freshet.removed as r (sink_id, target, sink, source)
        select s.id, v_lease.target, pg_catalog.to_jsonb(s), pg_catalog.to_jsonb(o)
        from freshet.sink s join freshet.source o on o.id = s.source_id
        where s.id = v_lease.sink_id and not s.keep_entries
        on conflict (sink_id, target) do update set sink = excluded.sink, source = excluded.source, removed_at = excluded.removed_at;
        if not exists (select from freshet.sink s where s.id = v_lease.sink_id and s.state in ('retiring', 'dropping')) then
            -- A target less. What failed there fails nowhere now.
            delete from freshet.failure f where f.sink_id = v_lease.sink_id and f.target = v_lease.target;
            delete from freshet.lease l
            where l.sink_id = v_lease.sink_id and l.target = v_lease.target and l.kind in ('retired', 'purge');
        elsif not exists (
            select from freshet.lease l
            where l.sink_id = v_lease.sink_id and l.kind = 'purge' and l.finished_at is null)
        then
            delete from freshet.sink s where s.id = v_lease.sink_id;
            delete from freshet.source o
            where o.relid is null and not exists (select from freshet.sink s where s.source_id = o.id);
        end if;
    end if;
    return true;
end
$$;

revoke all on function freshet.finish_lease(bigint, bigint) from public;
