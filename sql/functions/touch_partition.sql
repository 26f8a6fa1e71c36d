-- Touches the rows that a partition came with when it was made or attached, for those fired no
-- trigger. False if they are too many to be looked at while writers wait: the sinks have to be
-- warmed again instead.
create or replace function freshet.touch_partition(source integer, partition oid)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_partition_pruning = on
as $$
declare
    v_most     constant bigint := 8 << 20;   -- bytes; a tenth of a million rows may have as many
    v_relid    oid := (select s.relid from freshet.source s where s.id = touch_partition.source);
    v_within   text := pg_catalog.pg_get_partition_constraintdef(partition);
    v_columns  text;
begin
    if (select c.relkind from pg_catalog.pg_class c where c.oid = partition) <> 'r' or pg_catalog.pg_relation_size(partition) = 0 then
        return true;
    end if;
    if pg_catalog.pg_relation_size(partition) > v_most
        -- What row security hides now is read when it no longer is.
        or freshet.hides_rows(v_relid, pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)))
        -- Beside a partition by hash, by several columns or by default others would be read as well.
        or v_within is null or v_within ~ '[(]NOT '
        or exists (
            select from pg_catalog.pg_partition_ancestors(partition) a
            join pg_catalog.pg_partitioned_table p on p.partrelid = a.relid
            where p.partstrat not in ('r', 'l') or p.partnatts <> 1)
    then
        return false;
    end if;
    -- By name: a partition may number its columns otherwise.
    select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_columns
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
    where s.id = touch_partition.source;
    -- Through the parent: that is what the workers may read.
    perform freshet.touch(source, pg_catalog.format('select %s from %s t where t.tableoid = %s and %s',
        v_columns, v_relid::pg_catalog.regclass, partition, v_within));
    return true;
exception when lock_not_available then
    raise;
when others then
    -- Such as a type in the bounds that this role may not use.
    return false;
end
$$;

revoke all on function freshet.touch_partition(integer, oid) from public;
