-- Plans the filter as the workers will run it: a SQL boolean over the row of the
-- source, whose name is its alias.
create or replace function freshet.check_filter(source oid, filter text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_class   record;
    v_path    text := pg_catalog.current_setting('search_path');
    v_state   text;
    v_message text;
    v_frame   text;
    v_plan    refcursor;
begin
    if filter is null then
        return;
    end if;
    if pg_catalog.btrim(filter, E' \t\n\r') = '' then
        raise exception 'filter: it is empty' using errcode = 'invalid_parameter_value',
            hint = 'Leave filter out to take every row.';
    end if;
    select n.nspname, c.relname into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;

    begin
        perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
        -- Where no parenthesis is open the filter cannot close one: what fits into both
        -- frames stays inside the second, which is the workers'. And a cursor takes one
        -- statement only.
        foreach v_frame in array array[
            E'explain select from %1$I.%2$I as %2$I where case when\n%3$s\nthen true end',
            E'explain select from %1$I.%2$I as %2$I where ((\n%3$s\n)) is true']
        loop
            open v_plan for execute pg_catalog.format(v_frame, v_class.nspname, v_class.relname, filter);
            close v_plan;
        end loop;
        perform pg_catalog.set_config('search_path', v_path, true);
    exception when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        if v_message like 'argument of % must be type boolean%' then
            v_message := 'it must be a condition, true or false for each row';
        end if;
        raise exception 'filter: %', v_message
            using errcode = v_state, hint = freshet.column_hint(source);
    end;
end
$$;

revoke all on function freshet.check_filter(oid, text) from public;
