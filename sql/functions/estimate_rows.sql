-- How many rows the planner expects in a table. Nothing is counted.
create or replace function freshet.estimate_rows(source oid)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_plan  json;
begin
    execute pg_catalog.format('explain (format json) select from %s', source::pg_catalog.regclass) into v_plan;
    return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end
$$;

revoke all on function freshet.estimate_rows(oid) from public;
