-- Which life of the database this is: system identifier, timeline, database with what
-- freshet.renew_past drew, and the value that a crash or a promotion forgets. Null when that value is missing
-- and freshet.renew_incarnation has to draw another. In PL/pgSQL, which keeps the plan: every
-- claim asks.
create or replace function freshet.incarnation()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select (pg_catalog.pg_control_system()).system_identifier
        || '.' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
        || '.' || d.oid || coalesce('-' || n.past, '')
        || '.' || i.value
    from pg_catalog.pg_database d cross join freshet.installation n cross join freshet.incarnation i
    where d.datname = pg_catalog.current_database());
end
$$;

revoke all on function freshet.incarnation() from public;
