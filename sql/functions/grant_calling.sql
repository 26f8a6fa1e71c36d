-- Lets the workers call what the expressions of a sink call. What this role may not grant is
-- said in a notice, as the statement to run.
create or replace function freshet.grant_calling(source oid, sink freshet.sink)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_expression  record;
    v_probe       record;
    v_function    record;
    v_schema      oid;
    v_grant       text;
begin
    if pg_catalog.to_regrole('freshet_worker') is null then
        return;
    end if;
    for v_expression in
        select * from (values
            ('filter', sink.filter, 'condition'),
            ('value', sink.value, case when sink.grouped then 'group' else 'row' end),
            ('expires_at', sink.expires_at, case when sink.grouped then 'group' else 'row' end)) as e (argument, sql, what)
        where e.sql is not null
    loop
        v_probe := freshet.probe(source, v_expression.argument, v_expression.sql, v_expression.what);
        -- What a view calls counts as called by who reads it.
        for v_function in
            select p.oid::pg_catalog.regprocedure as name, p.proowner as owner
            from freshet.called(v_probe.tree || ' ' || v_probe.behind) as c (function)
            join pg_catalog.pg_proc p on p.oid = c.function
            where not pg_catalog.has_function_privilege('freshet_worker', p.oid, 'execute')
            order by p.oid
        loop
            v_grant := pg_catalog.format('grant execute on function %s to freshet_worker', v_function.name);
            if pg_catalog.pg_has_role(v_function.owner, 'usage') then
                execute v_grant;
            else
                raise notice '%: the workers may not call % yet', v_expression.argument, v_function.name
                    using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_function.owner), v_grant);
            end if;
        end loop;
        foreach v_schema in array v_probe.schemas loop
            perform freshet.grant_using(v_schema);
        end loop;
    end loop;
end
$$;

revoke all on function freshet.grant_calling(oid, freshet.sink) from public;
