-- The type at the bottom of a domain, or the type itself.
create or replace function freshet.base_type(type oid)
returns oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive down (oid, typbasetype) as (
        select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = base_type.type
        union all
        select t.oid, t.typbasetype from pg_catalog.pg_type t join down d on t.oid = d.typbasetype
    )
    select d.oid from down d where d.typbasetype = 0
$$;

revoke all on function freshet.base_type(oid) from public;
