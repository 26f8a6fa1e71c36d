-- The name of a type as it can be written anywhere: qualified unless it is Postgres'
-- own, and without a length (a cast to plain character would cut to one).
create or replace function freshet.type_name(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format_type(type, -1)
$$;

revoke all on function freshet.type_name(oid) from public;
