-- Inserts a River job and wakes a worker at commit. River's own client sends its
-- notifications from Go; a job inserted by SQL would wait for the next poll.
create or replace function freshet.enqueue(kind text, queue text, args jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    -- One attempt: what has to run again is enqueued again, under a new epoch.
    insert into freshet.river_job (kind, queue, args, max_attempts)
    values (enqueue.kind, enqueue.queue, enqueue.args, 1)
    returning id into v_id;

    -- A transaction that has notified cannot be prepared.
    if pg_catalog.current_setting('max_prepared_transactions') = '0' then
        perform pg_catalog.pg_notify('freshet.river_insert',
            pg_catalog.json_build_object('queue', enqueue.queue)::text);
    end if;
    return v_id;
end
$$;

revoke all on function freshet.enqueue(text, text, jsonb) from public;
