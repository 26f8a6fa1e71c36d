-- The condition that a tuple of order columns, as of order_terms, is in (lower, upper];
-- null is no bound.
create or replace function freshet.within(sink integer, terms text[], lower text[], upper text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.concat_ws(' and ', 'true',
        case when lower is not null then pg_catalog.format('(%s) > (%s)', pg_catalog.array_to_string(terms, ', '), freshet.bound(sink, lower)) end,
        case when upper is not null then pg_catalog.format('(%s) <= (%s)', pg_catalog.array_to_string(terms, ', '), freshet.bound(sink, upper)) end)
$$;

revoke all on function freshet.within(integer, text[], text[], text[]) from public;
