-- The parts of a key with the columns as they are called now, and their types. Columns are
-- kept by number, so that a rename is followed; one that is gone stays as it was.
create or replace function freshet.named_key(source oid, parts jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.jsonb_agg(
        p.part || coalesce((
            select pg_catalog.jsonb_build_object('column', a.attname, 'type', freshet.base_type(a.atttypid)::bigint)
            from pg_catalog.pg_attribute a
            where a.attrelid = source and a.attnum = (p.part ->> 'attnum')::smallint and not a.attisdropped), '{}')
        order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$$;

revoke all on function freshet.named_key(oid, jsonb) from public;
