-- Partitions of a source of which nothing is on record: they are neither in its fingerprint nor noted.
create or replace function freshet.unknown_partitions(source integer)
returns table (relid oid, attached text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid   oid;
    v_leaves  jsonb;
begin
    -- In PL/pgSQL, which keeps the plans: this is asked in each read.
    select s.relid, coalesce(s.fingerprint -> 'leaves', '{}') into v_relid, v_leaves
    from freshet.source s where s.id = unknown_partitions.source;
    return query
    with recursive down (relid, attached, leaving) as (
        select v_relid, null::text, false
        union all
        -- Those that are being detached too: who has begun to read before goes on reading them.
        select i.inhrelid, i.xmin::text, i.inhdetachpending
        from down d
        join pg_catalog.pg_partitioned_table t on t.partrelid = d.relid
        join pg_catalog.pg_inherits i on i.inhparent = d.relid
        where not d.leaving
    )
    select d.relid, d.attached from down d
    where d.relid <> v_relid
      and not v_leaves ? d.relid::text
      and not exists (
          select from freshet.noted_partition n
          where n.source_id = unknown_partitions.source and n.relid = d.relid and n.attached = d.attached);
end
$$;

revoke all on function freshet.unknown_partitions(integer) from public;
