-- What to say after an unknown column.
create or replace function freshet.column_hint(source oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select 'Its columns are: ' || pg_catalog.string_agg(a.attname, ', ' order by a.attnum) || '.'
    from pg_catalog.pg_attribute a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped
$$;

revoke all on function freshet.column_hint(oid) from public;
