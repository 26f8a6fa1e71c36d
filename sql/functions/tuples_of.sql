-- A lateral query, as text, for the tuples that the row c of a source's change table has: under
-- the names of its columns, one by one, whether they have a row each, or share it, or one is what
-- the other was before. A truncation
-- has one without values.
create or replace function freshet.tuples_of(source integer)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_one     text;
    v_old     text;
    v_moved   text;
    v_packed  text;   -- of a row that has lists; a column without one is null there
    v_names   text;
    v_lists   text;
begin
    select pg_catalog.string_agg('c.k' || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg('c.o' || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg(pg_catalog.format('c.o%s is not null', k.attnum), ' or ' order by k.attnum),
           pg_catalog.string_agg(case when a.attname is null then 'c.k' else 'u.k' end || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg('k' || k.attnum, ', ' order by k.attnum) filter (where a.attname is not null),
           pg_catalog.string_agg(pg_catalog.format('pg_catalog.unnest(c.%I)', a.attname), ', ' order by k.attnum) filter (where a.attname is not null)
    into v_one, v_old, v_moved, v_packed, v_names, v_lists
    from freshet.source s cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    left join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.id) and a.attname = 'k' || k.attnum || 's' and not a.attisdropped
    where s.id = tuples_of.source;
    if v_lists is null then
        return pg_catalog.format('(select %s union all select %s where %s)', v_one, v_old, v_moved);
    end if;
    return pg_catalog.format(
        '(select %s where c.tuples is null union all select %s where %s union all select %s from rows from (%s) as u (%s) where c.tuples is not null)',
        v_one, v_old, v_moved, v_packed, v_lists, v_names);
end
$$;

revoke all on function freshet.tuples_of(integer) from public;
