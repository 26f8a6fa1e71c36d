-- Whether values of a type print names that others decide on: a regclass, or anything
-- made of one, changes its text when the table is renamed or the search path is
-- another, and no row has changed.
create or replace function freshet.prints_names(type oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive inside (oid) as (
        select prints_names.type
        union
        select part.oid
        from inside i
        join pg_catalog.pg_type t on t.oid = i.oid
        cross join lateral (
            select t.typbasetype
            union all
            select t.typelem
            union all
            select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
            union all
            select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        ) as part (oid)
    )
    select exists (
        select from inside i join pg_catalog.pg_type t on t.oid = i.oid
        where t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace and t.typname ~ '^reg' or t.oid = 'aclitem'::pg_catalog.regtype)
$$;

revoke all on function freshet.prints_names(oid) from public;
