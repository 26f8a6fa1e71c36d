-- The key columns that have to be compared as lower(column): those with |lower whose
-- type does not ignore case by itself.
create or replace function freshet.folded(source oid, parts jsonb)
returns smallint[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(pg_catalog.array_agg(distinct (p.part ->> 'attnum')::smallint), '{}')
    from pg_catalog.jsonb_array_elements(parts) as p (part)
    where p.part -> 'modifiers' ? 'lower' and not freshet.ignores_case(source, (p.part ->> 'attnum')::smallint)
$$;

revoke all on function freshet.folded(oid, jsonb) from public;
