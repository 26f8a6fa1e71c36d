-- Wakes whoever sleeps on a source, at commit. A sleeper holds the lock, so a
-- busy database never pays for a notification; see the trigger in make_capture_function.
create or replace function freshet.ring(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, source)
        and pg_catalog.current_setting('max_prepared_transactions') = '0'
        and pg_catalog.pg_notification_queue_usage() < 0.5
    then
        perform pg_catalog.pg_notify('freshet_bell', source::text);
    end if;
end
$$;

revoke all on function freshet.ring(integer) from public;
