-- The parts of a key with what is known of each column: {"text": …} and {"column": …,
-- "modifiers": […], "attnum": …, "type": …}. The type is what a key can be read back
-- with when the table is long gone.
create or replace function freshet.key_by_attnum(source oid, parts jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.jsonb_agg(
        case when p.part ? 'column'
            then p.part || (
                select pg_catalog.jsonb_build_object('attnum', a.attnum, 'type', freshet.base_type(a.atttypid)::bigint)
                from pg_catalog.pg_attribute a
                where a.attrelid = source and a.attname = p.part ->> 'column')
            else p.part
        end order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$$;

revoke all on function freshet.key_by_attnum(oid, jsonb) from public;
