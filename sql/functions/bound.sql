-- A tuple of a sink's order columns as SQL: '7'::bigint, 'x'::text. Who runs it pins the
-- settings that touch_keys does.
create or replace function freshet.bound(sink integer, tuple text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.string_agg(
        pg_catalog.format('%L::%s', tuple[o.n],
            case when o.attnum = any (s.folded_attnums) then 'pg_catalog.text'
                else pg_catalog.format_type(a.atttypid, a.atttypmod) end), ', ' order by o.n)
    from freshet.sink s
    cross join lateral pg_catalog.unnest(s.order_attnums) with ordinality as o (attnum, n)
    join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.source_id) and a.attname = 'k' || o.attnum
    where s.id = bound.sink
$$;

revoke all on function freshet.bound(integer, text[]) from public;
