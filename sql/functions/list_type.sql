-- The type of a list of values of a key column, as a row of the change table may have it for
-- many tuples; null where one makes none: of values that are lists or rows themselves.
create or replace function freshet.list_type(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case when t.typcategory <> 'A' and t.typtype <> 'c' and t.typarray <> 0 then freshet.type_name(t.typarray) end
    from pg_catalog.pg_type t
    where t.oid = freshet.change_type(type)::pg_catalog.regtype
$$;

revoke all on function freshet.list_type(oid) from public;
