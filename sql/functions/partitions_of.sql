-- The partitions of a table, at every level, by what the catalog says. pg_partition_tree keeps
-- them locked until the transaction ends, and who has partitions locked before their parent
-- is in the way of whoever attaches, detaches or makes one.
create or replace function freshet.partitions_of(relation oid)
returns table (relid oid)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In PL/pgSQL, which keeps the plan: this is asked every second.
    return query
    with recursive down (relid) as (
        select c.oid from pg_catalog.pg_class c where c.oid = partitions_of.relation and c.relkind = 'p'
        union all
        select i.inhrelid from down d join pg_catalog.pg_inherits i on i.inhparent = d.relid where not i.inhdetachpending
    )
    select d.relid from down d where d.relid <> partitions_of.relation;
end
$$;

revoke all on function freshet.partitions_of(oid) from public;
