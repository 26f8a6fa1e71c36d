-- Gives up what a sink has still to remove from a target that will not come back. Without it, a sink that was
-- dropped would wait for a worker with that target's URL for ever, and its name and keys with it. Should the target
-- come back within thirty days, its entries are removed then.
create or replace function freshet.forget_target(sink text, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker  text;
    v_lease   record;
    v_any     boolean := false;
begin
    perform freshet.lock_definitions();
    select w.id into v_worker from freshet.worker w
    where forget_target.target = any (w.targets) and w.heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds'
    order by w.id limit 1;
    if v_worker is not null then
        raise exception 'target: the worker % serves "%", and removes what is there', v_worker, target
            using errcode = 'object_in_use',
                  hint = 'Wait until it is done, or take the URL of that target from it.';
    end if;
    -- Last of each sink the purge, which ends it.
    for v_lease in
        select l.id, l.kind, s.id as sink_id, s.state
        from freshet.sink s
        join freshet.lease p on p.sink_id = s.id and p.target = forget_target.target and p.kind = 'purge' and p.finished_at is null
        join freshet.lease l on l.sink_id = s.id and l.target = p.target and l.kind in ('backfill', 'sweep', 'purge') and l.finished_at is null
        where s.name = forget_target.sink
           or s.state in ('retiring', 'dropping') and pg_catalog.split_part(s.name, '~', 1) = forget_target.sink
        order by s.id, l.kind = 'purge', l.id
    loop
        v_any := true;
        perform freshet.check_owner(v_lease.sink_id);
        if v_lease.kind = 'purge' and v_lease.state not in ('retiring', 'dropping') then
            perform freshet.end_lanes(v_lease.id, (select l.epoch from freshet.lease l where l.id = v_lease.id));
        end if;
        -- Whoever has it after all finds another epoch.
        update freshet.lease l set epoch = l.epoch + 1 where l.id = v_lease.id;
        perform freshet.finish_lease(v_lease.id, (select l.epoch from freshet.lease l where l.id = v_lease.id));
    end loop;
    if not v_any then
        raise exception 'target: nothing of the sink "%" is still to be removed from "%"', sink, target
            using errcode = 'undefined_object',
                  hint = 'See the view freshet.status. A target that a sink writes to is taken from it by alter_sink(targets => …).';
    end if;
end
$$;

comment on function freshet.forget_target(text, text)
is 'Gives up what a dropped sink has still to remove from a target that will not come back.';
revoke all on function freshet.forget_target(text, text) from public;
