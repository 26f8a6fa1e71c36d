-- The functions that a parsed expression calls, by themselves or as operators. No pattern here
-- or elsewhere has a backslash, which is none where standard_conforming_strings is off.
create or replace function freshet.called(tree text)
returns setof oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select m[1]::oid from pg_catalog.regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') as m
    union
    select o.oprcode::oid from pg_catalog.regexp_matches(tree, ':opno ([0-9]+)', 'g') as m
    join pg_catalog.pg_operator o on o.oid = m[1]::oid
$$;

revoke all on function freshet.called(text) from public;
