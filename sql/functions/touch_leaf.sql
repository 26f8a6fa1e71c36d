-- Touches the rows of a partition that was made or attached: those it came with fired no
-- trigger. False if the leaf was truncated or rewritten before it was seen, so that rows
-- may be gone again.
create or replace function freshet.touch_leaf(source integer, leaf oid)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns  text;
begin
    if (select c.relkind from pg_catalog.pg_class c where c.oid = leaf) <> 'r' then
        return true;
    end if;
    -- By name: a leaf may number its columns otherwise.
    select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_columns
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
    where s.id = touch_leaf.source;
    -- Through the parent: that is what the workers may read.
    perform freshet.touch(source, pg_catalog.format('select %s from %s t where t.tableoid = %s',
        v_columns, (select s.relid from freshet.source s where s.id = touch_leaf.source)::pg_catalog.regclass, leaf));
    return (select pg_catalog.pg_relation_filenode(leaf) = leaf);
end
$$;

revoke all on function freshet.touch_leaf(integer, oid) from public;
