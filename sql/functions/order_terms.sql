-- The order columns of a sink as SQL terms: of its source's rows, or of the rows of its
-- change table.
create or replace function freshet.order_terms(sink integer, alias text, in_changes boolean)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.array_agg(
        case when o.attnum = any (s.folded_attnums) then pg_catalog.format('pg_catalog.lower(%s::pg_catalog.text)', c.term) else c.term end
        order by o.n)
    from freshet.sink s
    join freshet.source r on r.id = s.source_id
    cross join lateral pg_catalog.unnest(s.order_attnums) with ordinality as o (attnum, n)
    cross join lateral (
        select alias || '.' || case when in_changes then 'k' || o.attnum else (
            select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a
            where a.attrelid = r.relid and a.attnum = o.attnum) end as term) c
    where s.id = order_terms.sink
$$;

revoke all on function freshet.order_terms(integer, text, boolean) from public;
