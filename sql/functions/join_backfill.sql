-- Has the backfill of everything that a sink is in the middle of write again what it had
-- written before this moment. Null if there is none; one that is paused is joined by users
-- only, for what Freshet asks for itself must not wait. Who calls it holds the sink locked.
create or replace function freshet.join_backfill(sink integer, reason text, rate integer, sweeps boolean)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run    freshet.backfill_run;
    v_range  record;
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

    -- A target that the sink has got since.
    for v_range in
        select t.target from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = join_backfill.sink and not exists (
            select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
            where r.run_id = v_run.id and l.target = t.target and not r.superseded)
    loop
        perform freshet.add_range(v_run.id, v_range.target, null, null);
    end loop;

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
