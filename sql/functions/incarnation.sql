-- Which life of the database this is: system identifier, timeline, database with what
-- freshet.renew_past drew, and the value that a crash or a promotion forgets. Null when that value is missing
-- and freshet.renew_incarnation has to draw another. In PL/pgSQL, which keeps the plan: every
-- claim asks.
--
-- The first three stay what they are for as long as a session does: a crash ends it, before a promotion this cannot be
-- asked, and no session changes its database. To look them up takes most of the time, for one is read from a file. So a session
-- remembers them, as a setting that is true of whoever has the session next, too.
create or replace function freshet.incarnation()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_server text := pg_catalog.current_setting('freshet.server', true);
begin
    if coalesce(v_server, '') = '' then
        select (pg_catalog.pg_control_system()).system_identifier
            || '.' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
            || '.' || d.oid
        into strict v_server
        from pg_catalog.pg_database d
        where d.datname = pg_catalog.current_database();
        perform pg_catalog.set_config('freshet.server', v_server, false);
    end if;
    return (select v_server || coalesce('-' || n.past, '') || '.' || i.value
        from freshet.installation n cross join freshet.incarnation i);
end
$$;

revoke all on function freshet.incarnation() from public;
