-- Refuses an expression of a sink that is more than a function of the rows of its entry.
-- What is volatile is always refused, in a view and in a default argument too; what is
-- stable, or reads another table, unless its drift is accepted. `what` is as in
-- check_expression. `reads` are the other tables, `calls` what users have made, as
-- [["schema", "function"], ["schema", "operator", "operator", "left", "right"], ["schema", "type", "type"]], and
-- ["", "", "row"] for whole rows: what is dropped and made again is the same.
--
-- Postgres says which functions an expression calls, how volatile they are, and what it
-- reads. Of functions that are stable, the ones in is_settled depend on nothing but settings
-- that are the same for every worker.
drop function if exists freshet.check_purity(oid, text, text, text, boolean);
create function freshet.check_purity(
    source      oid,
    argument    text,
    expression  text,
    what        text,
    drifts      boolean,
    out reads   oid[],
    out calls   jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_probe   record;
    v_tree    text;
    v_column  text;
    v_called  record;
    v_why     text;
    v_word    text;
begin
    reads := '{}';
    calls := '[]';
    if expression is null then
        return;
    end if;
    v_probe := freshet.probe(source, argument, expression, what);
    -- Postgres reads those once, when it reads the expression, and what it has read is a constant.
    foreach v_word in array '{now,today,tomorrow,yesterday}'::text[] loop
        continue when expression !~* ('''[^'']*[[:<:]]' || v_word || '[[:>:]][^'']*''');
        begin
            perform freshet.probe(source, argument,
                pg_catalog.regexp_replace(expression, '(''[^'']*)[[:<:]]' || v_word || '[[:>:]]([^'']*'')', E'\\1freshet\\2', 'gi'), what);
        exception when invalid_datetime_format then
            raise exception '%: ''%'' is the time at which the expression is read, and stays what it was then', argument, v_word
                using errcode = 'invalid_parameter_value', hint = 'Say current_date or now(), which needs expires or accept_drift => true.';
        when others then
            null; -- It was no literal of that kind.
        end;
    end loop;
    v_tree := v_probe.tree || ' ' || v_probe.behind;
    select a.attname into v_column
    from pg_catalog.regexp_matches(v_probe.tree, ':varattno (-[0-9]+) ', 'g') as m
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attnum = m[1]::smallint
    -- The one that stays is tableoid.
    where a.attname in ('ctid', 'xmin', 'xmax', 'cmin', 'cmax')
    limit 1;
    if found then
        raise exception '%: it uses %, which changes when the row does not', argument, v_column
            using errcode = 'invalid_parameter_value', hint = 'Leave it out, or use a column of the table.';
    end if;
    if v_tree like '%{ROWMARKCLAUSE %' then
        raise exception '%: it locks rows, and workers only read', argument
            using errcode = 'invalid_parameter_value', hint = 'Leave out the for update or for share.';
    end if;

    for v_called in
        select p.oid, p.proname, p.provolatile, p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace as ours
        from freshet.called(v_tree) as c (oid)
        join pg_catalog.pg_proc p on p.oid = c.oid
        where p.provolatile = 'v' or p.provolatile = 's' and not freshet.is_settled(p.oid)
        order by p.provolatile desc, p.proname
    loop
        if v_called.provolatile = 'v' then
            raise exception '%: %() is volatile, so that the same row would make another value each time', argument, v_called.proname
                using errcode = 'invalid_parameter_value',
                      hint = case when v_called.ours then 'Leave it out, or compute it when the row is written.'
                          else pg_catalog.format('If it is not, say so: alter function %s immutable;', v_called.oid::pg_catalog.regprocedure) end;
        end if;
        v_why := coalesce(v_why, pg_catalog.format('%s() can change its answer when no row changes', v_called.proname));
    end loop;
    if v_why is null and v_tree like '%{SQLVALUEFUNCTION %' then
        v_why := 'it asks for the time or the user, which change when no row does';
    end if;

    select coalesce(pg_catalog.array_agg(distinct r.relid) filter (where r.relid <> source), '{}'),
           coalesce(v_why, case
               when count(*) filter (where r.relid <> source) > 0 then
                   pg_catalog.format('it reads %s, and nothing here tells when that changes', min(r.relid::pg_catalog.regclass::text) filter (where r.relid <> source))
               when count(*) filter (where r.relid = source) > 1 then
                   pg_catalog.format('it reads other rows of %s, whose changes touch other entries', source::pg_catalog.regclass) end)
    into reads, v_why
    from (select m[1]::oid as relid from pg_catalog.regexp_matches(v_probe.tree, ':rtekind 0 :relid ([0-9]+)', 'g') as m) r
    where r.relid <> 0;
    if v_why is not null and not drifts then
        raise exception '%: %', argument, v_why
            using errcode = 'invalid_parameter_value',
                  hint = 'Give expires, for how long an entry may be as it was, or say accept_drift => true.';
    end if;
    -- What comes with Postgres does not change.
    select coalesce(pg_catalog.jsonb_agg(c.call), '[]') into calls
    from (
        select pg_catalog.jsonb_build_array(n.nspname, p.proname) as call
        from freshet.called(v_tree) as c (oid)
        join pg_catalog.pg_proc p on p.oid = c.oid
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where c.oid >= 16384
        union
        select pg_catalog.jsonb_build_array(n.nspname, o.oprname, 'operator',
                   coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprleft), ''),
                   coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprright), ''))
        from pg_catalog.regexp_matches(v_tree, ':opno ([0-9]+)', 'g') as m
        join pg_catalog.pg_operator o on o.oid = m[1]::oid
        join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
        where o.oid >= 16384
        union
        select pg_catalog.jsonb_build_array(n.nspname, t.typname, 'type')
        from pg_catalog.unnest(v_probe.types) as d
        join pg_catalog.pg_type t on t.oid = d
        join pg_catalog.pg_namespace n on n.oid = t.typnamespace
        union
        -- Whoever has a value made of whole rows says when more columns are to make it again.
        select '["", "", "row"]'
        where argument <> 'value' and v_probe.tree ~ ':varattno 0 ') c;
end
$$;

revoke all on function freshet.check_purity(oid, text, text, text, boolean) from public;
