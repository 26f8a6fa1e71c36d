-- A key template with every column replaced by the same mark.
create or replace function freshet.key_shape(parts jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
    select pg_catalog.string_agg(coalesce(p.part ->> 'text', pg_catalog.chr(1)), '' order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$$;

revoke all on function freshet.key_shape(jsonb) from public;
