-- Refuses a table whose rows can change without a trigger of its own, saying why.
create or replace function freshet.check_kind(source oid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   pg_catalog.pg_class;
    v_schema  name;
    v_leaf    record;
    v_name    text := source::pg_catalog.regclass::text;
begin
    select * into v_class from pg_catalog.pg_class c where c.oid = check_kind.source;
    if not found then
        return;
    end if;
    select n.nspname into v_schema from pg_catalog.pg_namespace n where n.oid = v_class.relnamespace;
    if v_schema in ('freshet', 'pg_catalog', 'information_schema') then
        raise exception 'source: % belongs to the schema %, which cannot feed a sink', v_name, v_schema
            using errcode = 'wrong_object_type';
    elsif v_class.relispartition then
        raise exception 'source: % is a partition', v_name
            using errcode = 'wrong_object_type',
                  hint = pg_catalog.format('Name the partitioned table, %s.', pg_catalog.pg_partition_root(source)::text);
    elsif v_class.relkind not in ('r', 'p') then
        raise exception 'source: % is not a table', v_name
            using errcode = 'wrong_object_type',
                  hint = 'Name a table; views and foreign tables fire no triggers for their rows.';
    elsif v_class.relpersistence <> 'p' then
        raise exception 'source: % is a temporary or unlogged table, whose rows vanish without a trigger', v_name
            using errcode = 'wrong_object_type';
    elsif v_class.relkind = 'r' and exists (select from pg_catalog.pg_inherits i where source in (i.inhrelid, i.inhparent)) then
        raise exception 'source: % inherits from a table or is inherited from', v_name
            using errcode = 'wrong_object_type',
                  hint = 'Its unique indexes do not span the family, so that keys could clash. Partition the table instead.';
    end if;
    select c.oid::pg_catalog.regclass as name, c.relkind into v_leaf
    from freshet.partitions_of(source) p
    join pg_catalog.pg_class c on c.oid = p.relid
    where c.relkind = 'f' or c.relpersistence <> 'p'
    order by c.oid
    limit 1;
    if found then
        raise exception 'source: the partition % of % is %', v_leaf.name, v_name, case v_leaf.relkind
                when 'f' then 'a foreign table, whose rows change without a trigger' else 'unlogged, and its rows can vanish without a trigger' end
            using errcode = 'wrong_object_type';
    end if;
end
$$;

revoke all on function freshet.check_kind(oid) from public;
