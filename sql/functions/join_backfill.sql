-- Has the backfill of everything that a sink is in the middle of write again what it had
-- written before this moment. Null if there is none; one that is paused is joined by users
-- only, for what Freshet asks for itself must not wait. Who calls it holds the sink locked.
create or replace function freshet.join_backfill(sink integer, reason text, rate integer, sweeps boolean)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select * into v_run
    from freshet.backfill_run b
    where b.sink_id = join_backfill.sink and b.filter is null
      and (b.state in ('queued', 'running') or b.state = 'paused' and join_backfill.reason = 'user')
    order by b.id desc
    limit 1;
    if not found then
        return null;
    end if;

    perform freshet.lock_ranges(join_backfill.sink);
    perform freshet.redo_ranges(v_run.id, null);

    perform freshet.add_targets(v_run.id);

    -- What a user asks for is not slowed down for having been asked for by Freshet before.
    update freshet.backfill_run b
    set reason = case when join_backfill.reason = 'user' and b.reason = 'rewarm' then 'user' else b.reason end,
        rate = case when join_backfill.reason = 'user' and (b.reason = 'rewarm' or join_backfill.rate is not null) then join_backfill.rate else b.rate end,
        paced_until = null,
        needed = b.needed or join_backfill.reason <> 'user',
        sweeps = b.sweeps or join_backfill.sweeps,
        requested = pg_catalog.pg_current_snapshot()
    where b.id = v_run.id;
    -- Whoever works on it has to know of the rate.
    update freshet.sink s set revision = s.revision + 1 where s.id = join_backfill.sink;
    if v_run.state = 'paused' then
        perform freshet.continue_backfill(v_run.id);
    end if;
    return v_run.id;
end
$$;

revoke all on function freshet.join_backfill(integer, text, integer, boolean) from public;
