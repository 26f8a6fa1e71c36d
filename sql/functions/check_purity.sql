-- Refuses an expression of a sink that is more than a function of the rows of its entry.
-- What is volatile is always refused; what is stable, or reads another table, unless its
-- drift is accepted. `what` is as in check_expression. Returns the other tables.
--
-- Postgres says which functions an expression calls and what it reads: it is made a view for
-- a moment. And it says how volatile they are; of those that are stable, the ones in
-- is_settled depend on nothing but settings that are the same for every worker.
create or replace function freshet.check_purity(source oid, argument text, expression text, what text, drifts boolean)
returns oid[]
language plpgsql
set search_path = ''
as $$
declare
    v_class   record;
    v_path    text := pg_catalog.current_setting('search_path');
    v_view    oid;
    v_tree    text;
    v_called  record;
    v_others  oid[];
    v_why     text;
begin
    if expression is null then
        return '{}';
    end if;
    if not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'temporary') then
        raise exception '%: to look into it, this role needs the right to make temporary objects in this database', argument
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Run: grant temporary on database %I to %I;', pg_catalog.current_database(), current_user);
    end if;
    select n.nspname, c.relname into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    execute pg_catalog.format(E'create temporary view freshet_probe as select true as probe from %1$I.%2$I as %2$I %4$s ((\n%3$s\n)) is null',
        v_class.nspname, v_class.relname, expression, case what when 'group' then 'group by () having' else 'where' end);
    perform pg_catalog.set_config('search_path', v_path, true);
    v_view := 'pg_temp.freshet_probe'::pg_catalog.regclass;
    select r.ev_action::text into v_tree from pg_catalog.pg_rewrite r where r.ev_class = v_view;
    drop view pg_temp.freshet_probe;

    for v_called in
        select p.oid, p.proname, p.provolatile, p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace as ours
        from (
            select m[1]::oid as oid from pg_catalog.regexp_matches(v_tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') as m
            union
            select o.oprcode::oid from pg_catalog.regexp_matches(v_tree, ':opno (\d+)', 'g') as m
            join pg_catalog.pg_operator o on o.oid = m[1]::oid
        ) c
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
    into v_others, v_why
    from (select m[1]::oid as relid from pg_catalog.regexp_matches(v_tree, ':rtekind 0 :relid (\d+)', 'g') as m) r
    where r.relid not in (0, v_view);
    if v_why is not null and not drifts then
        raise exception '%: %', argument, v_why
            using errcode = 'invalid_parameter_value',
                  hint = 'Give expires, for how long an entry may be as it was, or say accept_drift => true.';
    end if;
    return v_others;
end
$$;

revoke all on function freshet.check_purity(oid, text, text, text, boolean) from public;
