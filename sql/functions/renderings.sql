-- How values of types that users have made read: a label for each value of an enum, the
-- attributes of a composite type; those of the types within them too. A name that stands for
-- something else than before is a column whose values read otherwise, though no row was touched.
create or replace function freshet.renderings(types oid[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In PL/pgSQL, which keeps the plan: this is asked every second.
    return (with recursive within (type) as (
        select t from pg_catalog.unnest(types) as t
        union
        select x.type
        from within w
        join pg_catalog.pg_type t on t.oid = w.type
        cross join lateral (
            select t.typelem as type
            union all
            select t.typbasetype
            union all
            select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
            union all
            select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        ) x
        -- What comes with Postgres does not change.
        where x.type >= 16384
    )
    select pg_catalog.jsonb_object_agg(r.name, r.reads)
    from (
        -- xmin, for what is renamed and renamed back
        select 'value ' || e.oid as name, e.enumlabel || ' ' || e.xmin::text as reads
        from within w join pg_catalog.pg_enum e on e.enumtypid = w.type
        union all
        select 'row ' || w.type, pg_catalog.string_agg(a.attname || ' ' || a.atttypid || ' ' || a.atttypmod || ' ' || a.xmin::text, ', ' order by a.attnum)
        from within w
        join pg_catalog.pg_type t on t.oid = w.type
        join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        group by w.type
    ) r);
end
$$;

revoke all on function freshet.renderings(oid[]) from public;
