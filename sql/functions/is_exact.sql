-- Whether two values of a column that are equal in SQL are always the same bytes
-- when rendered. Not so for numeric (1.0 = 1.00), for floats (-0 = 0), citext,
-- bpchar or a collation that is not deterministic: those are compared as text.
create or replace function freshet.is_exact(relation oid, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        -- A domain over an enum has no equality of its own.
        (d.typtype = 'e' or t.oid = any (array[
            'bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', '"char"', 'uuid', 'bytea',
            'date', 'timestamp', 'timestamptz']::pg_catalog.regtype[]))
        and coalesce(c.collisdeterministic, true), false)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type d on d.oid = a.atttypid
    join pg_catalog.pg_type t on t.oid = case when d.typtype = 'd' then freshet.base_type(d.oid) else d.oid end
    left join pg_catalog.pg_collation c on c.oid = a.attcollation
    where a.attrelid = relation and a.attnum = is_exact.attnum
$$;

revoke all on function freshet.is_exact(oid, smallint) from public;
