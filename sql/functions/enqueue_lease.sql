-- Enqueues the job that will take a lease under its present epoch.
create or replace function freshet.enqueue_lease(lease bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease     freshet.lease;
    v_function  text;
begin
    select * into strict v_lease from freshet.lease l where l.id = enqueue_lease.lease for update;
    select freshet.function_for(s, v_lease) into v_function from freshet.sink s where s.id = v_lease.sink_id;

    update freshet.lease l
    set job_id = freshet.enqueue(
        case when v_lease.kind in ('sync', 'backfill') then v_lease.kind else 'maintain' end,
        coalesce(freshet.queue_of(v_lease.offered_to), freshet.queue_for(v_lease.kind, v_lease.target, v_function)),
        pg_catalog.jsonb_build_object('lease', v_lease.id, 'epoch', v_lease.epoch))
    where l.id = v_lease.id;
end
$$;

revoke all on function freshet.enqueue_lease(bigint) from public;
