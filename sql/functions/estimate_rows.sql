-- How many rows the planner expects in a table, or expects a filter to select; with terms,
-- how many different ones. Nothing is counted.
create or replace function freshet.estimate_rows(source oid, filter text default null, terms text[] default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class  record;
    v_plan   json;
begin
    select n.nspname, c.relname into strict v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    execute pg_catalog.format(E'explain (format json) select %4$s from %1$I.%2$I as %2$I where ((\n%3$s\n))',
        v_class.nspname, v_class.relname, coalesce(filter, 'true'), 'distinct ' || pg_catalog.array_to_string(terms, ', '))
    into v_plan;
    return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end
$$;

revoke all on function freshet.estimate_rows(oid, text, text[]) from public;
