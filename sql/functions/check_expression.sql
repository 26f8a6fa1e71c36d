-- Plans an expression over the row of a source as the workers will run it, with the
-- table's name as its alias, and returns its base type. What for:
--
--   condition  true or false for each row
--   row        one value for each row
--   group      one value for all rows that share a key: an aggregate
create or replace function freshet.check_expression(source oid, argument text, expression text, what text)
returns oid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   record;
    v_path    text := pg_catalog.current_setting('search_path');
    v_state   text;
    v_message text;
    v_frame   text;
    v_plan    refcursor;
    v_type    oid;
begin
    if expression is null then
        return null;
    end if;
    if pg_catalog.btrim(expression, E' \t\n\r') = '' then
        raise exception '%: it is empty', argument using errcode = 'invalid_parameter_value',
            hint = case what when 'condition' then pg_catalog.format('Leave %s out to take every row.', argument)
                else pg_catalog.format('Leave %s out, or give an expression.', argument) end;
    end if;
    select n.nspname, c.relname into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;

    begin
        perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
        -- Where no parenthesis is open the expression cannot close one: what fits into both
        -- frames stays inside the second, which is the workers'. And a cursor takes one
        -- statement only. Where a row makes a value, no aggregate can stand in a condition.
        foreach v_frame in array case what
            when 'condition' then array[
                E'where case when\n%3$s\nthen true end',
                E'where ((\n%3$s\n)) is true']
            when 'row' then array[
                E'where case when true then\n%3$s\nend is null',
                E'where ((\n%3$s\n)) is null']
            else array[
                E'group by () having case when true then\n%3$s\nend is null',
                E'group by () having ((\n%3$s\n)) is null'] end
        loop
            open v_plan for execute pg_catalog.format('explain select from %1$I.%2$I as %2$I ' || v_frame, v_class.nspname, v_class.relname, expression);
            close v_plan;
        end loop;
        -- Nothing is evaluated: there is no row.
        execute pg_catalog.format(E'select pg_catalog.pg_typeof((select ((\n%3$s\n)) from %1$I.%2$I as %2$I where false%4$s))::oid',
            v_class.nspname, v_class.relname, expression, case when what = 'group' then ' group by () having false' else '' end)
        into v_type;
        perform pg_catalog.set_config('search_path', v_path, true);
    exception when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        v_message := case
            when v_message like 'argument of % must be type boolean%' then 'it must be a condition, true or false for each row'
            when v_message like 'aggregate functions are not allowed%' then
                'it has an aggregate, and each row has a key and an entry of its own'
            when v_message like 'window functions are not allowed%' then 'it has a window function, and an entry is made of the rows of its key only'
            when v_message like 'set-returning functions are not allowed%' then 'it must be one value, and it has a function that returns several'
            when v_message like '% must appear in the GROUP BY clause or be used in an aggregate function' then
                'several rows share a key, so it must be an aggregate over them: '
                || pg_catalog.replace(v_message, ' must appear in the GROUP BY clause or be used in an aggregate function', ' is in none')
            else v_message end;
        raise exception '%: %', argument, v_message
            using errcode = v_state, hint = freshet.column_hint(source);
    end;
    -- A domain is sent as what it is a domain of.
    return freshet.base_type(v_type);
end
$$;

revoke all on function freshet.check_expression(oid, text, text, text) from public;
