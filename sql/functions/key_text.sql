-- The template that parts of a key come from.
create or replace function freshet.key_text(parts jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $body$
    select pg_catalog.string_agg(
        case when p.part ? 'column'
            then '${' || pg_catalog.concat_ws('|', p.part ->> 'column', (
                select pg_catalog.string_agg(m.modifier, '|' order by m.n)
                from pg_catalog.jsonb_array_elements_text(p.part -> 'modifiers') with ordinality as m (modifier, n))) || '}'
            else pg_catalog.replace(p.part ->> 'text', '${', '$${') end,
        '' order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$body$;

revoke all on function freshet.key_text(jsonb) from public;
