-- A text as ${column|url} renders it: what RFC 3986 calls unreserved stays as it is.
create or replace function freshet.percent_encode(value text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when value is not null then coalesce(pg_catalog.string_agg(
        case when c.c ~ '^[A-Za-z0-9._~-]$' then c.c
            else pg_catalog.regexp_replace(pg_catalog.upper(pg_catalog.encode(pg_catalog.convert_to(c.c, 'UTF8'), 'hex')), '(..)', E'%\\1', 'g') end,
        '' order by c.n), '') end
    from pg_catalog.regexp_split_to_table(value, '') with ordinality as c (c, n)
$$;

revoke all on function freshet.percent_encode(text) from public;
