-- Enqueues a backfill of a sink: a run, and a range with its lease and job for
-- each target.
create or replace function freshet.request_backfill(sink integer, reason text)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_sink   freshet.sink;
    v_run    bigint;
    v_lease  bigint;
begin
    select * into strict v_sink from freshet.sink s where s.id = request_backfill.sink;

    insert into freshet.backfill_run (sink_id, reason, rows_estimated, rate)
    select v_sink.id, request_backfill.reason, freshet.estimate_rows(s.relid),
           case when request_backfill.reason = 'rewarm' then v_sink.max_rate end
    from freshet.source s
    where s.id = v_sink.source_id
    returning id into v_run;

    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor)
        select v_sink.id, 'backfill', t.target, 'b' || v_run, ''
        from pg_catalog.unnest(v_sink.targets) as t (target)
        returning id
    loop
        insert into freshet.backfill_range (lease_id, run_id) values (v_lease, v_run);
        perform freshet.enqueue_lease(v_lease);
    end loop;
    return v_run;
end
$$;

revoke all on function freshet.request_backfill(integer, text) from public;
