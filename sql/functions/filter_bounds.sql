-- Between which tuples of a sink's order columns the rows are that a filter selects:
-- (lower, upper]. Asked only where an index answers at once, as for bounds on the key
-- itself; null otherwise.
create or replace function freshet.filter_bounds(sink integer, filter text, out lower text[], out upper text[])
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lc_monetary = 'C'
set array_nulls = on
set enable_seqscan = off
set jit = off
as $$
declare
    v_class  record;
    v_terms  text[];
    v_point  text;
    v_from   text;
    v_sql    text;
    v_plan   json;
    v_first  text[];
begin
    select n.nspname, c.relname, c.oid into strict v_class
    from freshet.sink s
    join freshet.source o on o.id = s.source_id
    join pg_catalog.pg_class c on c.oid = o.relid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where s.id = filter_bounds.sink;
    -- Who does not see every row cannot say where they begin and end.
    if pg_catalog.row_security_active(v_class.oid) then
        return;
    end if;
    -- As for the workers: the filter is planned on the way through this setting.
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    v_terms := freshet.order_terms(sink, pg_catalog.quote_ident(v_class.relname), false);
    select pg_catalog.string_agg(pg_catalog.format('(%s)::pg_catalog.text', t), ', '),
           pg_catalog.format('from %I.%I as %2$I where ', v_class.nspname, v_class.relname)
               || pg_catalog.string_agg(pg_catalog.format('%s is not null', t), ' and ')
    into v_point, v_from
    from pg_catalog.unnest(v_terms) as t;

    v_sql := pg_catalog.format(E'select array[%s] %s and ((\n%s\n)) order by %s limit 1', v_point, v_from, filter,
        pg_catalog.array_to_string(v_terms, ', '));
    execute 'explain (format json) ' || v_sql into v_plan;
    if v_plan::text ~ '"Filter"|"Recheck|"Join' or (v_plan -> 0 -> 'Plan' ->> 'Total Cost')::double precision > 10000 then
        return;
    end if;
    execute v_sql into v_first;
    if v_first is null then
        return;
    end if;
    execute pg_catalog.format(E'select array[%s] %s and ((\n%s\n)) order by %s desc limit 1', v_point, v_from, filter,
        pg_catalog.array_to_string(v_terms, ' desc, '))
    into upper;
    execute pg_catalog.format('select array[%s] %s and (%s) < (%s) order by %s desc limit 1', v_point, v_from,
        pg_catalog.array_to_string(v_terms, ', '), freshet.bound(sink, v_first), pg_catalog.array_to_string(v_terms, ' desc, '))
    into lower;
end
$$;

revoke all on function freshet.filter_bounds(integer, text) from public;
