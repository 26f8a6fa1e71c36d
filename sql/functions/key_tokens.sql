-- A key template as a list of tokens: '=x' is the character x, '[…]' any number of
-- characters of a class, '*' any text.
create or replace function freshet.key_tokens(parts jsonb)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.array_agg(t.token order by p.n, t.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
    cross join lateral (
        select '=' || c.character as token, c.n
        from pg_catalog.regexp_split_to_table(p.part ->> 'text', '') with ordinality as c (character, n)
        where p.part ? 'text'
        union all
        select coalesce('[' || freshet.key_class((p.part ->> 'type')::oid, p.part -> 'modifiers') || ']', '*'), 1
        where not p.part ? 'text'
    ) t
$$;

revoke all on function freshet.key_tokens(jsonb) from public;
