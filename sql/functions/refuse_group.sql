-- Says which index is missing on the columns of a key that several rows share: without one,
-- each entry would take a walk through the whole table.
create or replace function freshet.refuse_group(source oid, key text, parts jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'key: several rows of % share a key, and no index begins with the columns of "%"',
        source::pg_catalog.regclass, key
        using errcode = 'invalid_parameter_value',
              hint = pg_catalog.format('Run: create index concurrently on %s (%s);', source::pg_catalog.regclass, (
                  select pg_catalog.string_agg(c.term, ', ' order by c.n)
                  from (
                      select case when p.part -> 'modifiers' ? 'lower' and not freshet.ignores_case(source, (p.part ->> 'attnum')::smallint)
                                 then pg_catalog.format('lower(%I)', p.part ->> 'column')
                                 else pg_catalog.quote_ident(p.part ->> 'column') end as term, min(p.n) as n
                      from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
                      where p.part ? 'column'
                      group by 1) c));
end
$$;

revoke all on function freshet.refuse_group(oid, text, jsonb) from public;
