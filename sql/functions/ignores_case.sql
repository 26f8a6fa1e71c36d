-- Whether the type of a column takes 'Ada' and 'ADA' for equal: citext. A collation
-- that is not deterministic may do so too, but does not say it.
create or replace function freshet.ignores_case(relation oid, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select t.typname = 'citext'
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = freshet.base_type(a.atttypid)
    where a.attrelid = relation and a.attnum = ignores_case.attnum
$$;

revoke all on function freshet.ignores_case(oid, smallint) from public;
