-- Whether all of these transactions, as freshet.holders_of has them, are autovacuum's. Others may not see
-- what a backend is, but that it is in a database and nobody's.
create or replace function freshet.are_vacuums(holders text[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(pg_catalog.bool_and(exists (
        select from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
        where l.virtualtransaction = h and a.usesysid is null and a.datid is not null)), false)
    from pg_catalog.unnest(holders) as h
$$;

revoke all on function freshet.are_vacuums(text[]) from public;
