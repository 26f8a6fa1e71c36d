-- Keeps everybody else from looking after the capture of a source until the transaction ends:
-- from writing its trigger function anew, with the change table locked after it. Called before
-- any of that is locked. Who is at it ends soon; if not, this is an error after about ten
-- seconds.
create or replace function freshet.lock_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_until  timestamptz := pg_catalog.clock_timestamp() + interval '10 seconds';
begin
    while not pg_catalog.pg_try_advisory_xact_lock(1181905014, source) loop
        if pg_catalog.clock_timestamp() > v_until then
            raise exception 'source: somebody looks after the capture of % and does not end',
                (select pg_catalog.format('%I.%I', s.schema_name, s.table_name) from freshet.source s where s.id = lock_capture.source)
                using errcode = 'lock_not_available',
                      hint = 'See pg_locks for the advisory lock 1181905014 and pg_stat_activity for who has it, then run this again.';
        end if;
        perform pg_catalog.pg_sleep(0.02);
    end loop;
end
$$;

revoke all on function freshet.lock_capture(integer) from public;
