-- Locks a source as CREATE TRIGGER does, without making its writers queue for
-- long: short attempts with pauses, and an error after about ten seconds.
create or replace function freshet.lock_source(source oid, mode text default 'share row exclusive')
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_timeout  text := pg_catalog.current_setting('lock_timeout');
    v_until    timestamptz := pg_catalog.clock_timestamp() + interval '10 seconds';
begin
    loop
        begin
            perform pg_catalog.set_config('lock_timeout', '200ms', true);
            execute pg_catalog.format('lock table %s in %s mode', source::pg_catalog.regclass, mode);
            perform pg_catalog.set_config('lock_timeout', v_timeout, true);
            return;
        exception when lock_not_available then
            perform pg_catalog.set_config('lock_timeout', v_timeout, true);
            if pg_catalog.clock_timestamp() > v_until then
                raise exception 'source: % is in use by a transaction that does not end', source::pg_catalog.regclass
                    using errcode = 'lock_not_available',
                          hint = 'Wait for it or end it (see pg_stat_activity), then run this again.';
            end if;
        end;
        perform pg_catalog.pg_sleep(0.05 + pg_catalog.random() * 0.2);
    end loop;
end
$$;

revoke all on function freshet.lock_source(oid, text) from public;
