-- The type under which a key column is kept in the change table: wide enough that a
-- column which grows (integer to bigint, varchar(5) to varchar(50)) never makes
-- capture fail. Whole numbers of any width print and compare the same.
create or replace function freshet.change_type(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when base in (21, 23) then 'bigint'
        when base = 1043 then 'text'
        else freshet.type_name(base)
    end
    from (select freshet.base_type(type) as base) b
$$;

revoke all on function freshet.change_type(oid) from public;
