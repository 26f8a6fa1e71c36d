-- The order columns of a sink as SQL terms: of its source's rows, or of the rows of its
-- change table.
create or replace function freshet.order_terms(sink integer, alias text, in_changes boolean)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.array_agg(
        case when o.attnum = any (s.folded_attnums) then pg_catalog.format('pg_catalog.lower(%s::pg_catalog.text)', c.term)
             -- A domain over an enum is compared as that.
             when c.over is not null and not in_changes then pg_catalog.format('%s::%s', c.term, freshet.type_name(c.over))
             else c.term end
        order by o.n)
    from freshet.sink s
    join freshet.source r on r.id = s.source_id
    cross join lateral pg_catalog.unnest(s.order_attnums) with ordinality as o (attnum, n)
    cross join lateral (
        select alias || '.' || case when in_changes then 'k' || o.attnum else pg_catalog.quote_ident(a.attname) end as term,
               (select b.oid from pg_catalog.pg_type d join pg_catalog.pg_type b on b.oid = freshet.base_type(d.oid)
                where d.oid = a.atttypid and d.typtype = 'd' and b.typtype = 'e') as over
        from (select) as nothing
        left join pg_catalog.pg_attribute a on a.attrelid = r.relid and a.attnum = o.attnum) c
    where s.id = order_terms.sink
$$;

revoke all on function freshet.order_terms(integer, text, boolean) from public;
