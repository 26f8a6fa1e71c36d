-- What Postgres makes of an expression over the row of a source: it is made a view for a
-- moment. `what` is as in check_expression.
--
--   tree     the expression, parsed
--   behind   the same of what it calls upon by name: the views that it reads, on every level,
--            and default arguments where a call leaves some out
--   schemas  those in which it names something
--   types    those that users have made
drop function if exists freshet.probe(oid, text, text, text);
create function freshet.probe(
    source       oid,
    argument     text,
    expression   text,
    what         text,
    out tree     text,
    out behind   text,
    out schemas  oid[],
    out types    oid[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class  record;
    v_path   text := pg_catalog.current_setting('search_path');
    v_view   oid;
    v_rule   oid;
begin
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
    -- Before version 16 a view's tree names the view itself.
    select r.oid, pg_catalog.replace(r.ev_action::text, ':relid ' || v_view || ' ', ':relid 0 ')
    into v_rule, tree
    from pg_catalog.pg_rewrite r where r.ev_class = v_view;

    -- Of what is in pg_catalog there is nothing: everybody may use that.
    select coalesce(pg_catalog.array_agg(distinct coalesce(p.pronamespace, t.typnamespace, o.oprnamespace)), '{}') into schemas
    from pg_catalog.pg_depend d
    left join pg_catalog.pg_proc p on d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = d.refobjid
    left join pg_catalog.pg_type t on d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass and t.oid = d.refobjid
    left join pg_catalog.pg_operator o on d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass and o.oid = d.refobjid
    where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = v_rule
      and coalesce(p.pronamespace, t.typnamespace, o.oprnamespace) is not null;
    select coalesce(pg_catalog.array_agg(distinct t), '{}') into types
    from (
        select d.refobjid as t from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = v_rule and d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
        union
        select p.prorettype from freshet.called(tree) as c (function) join pg_catalog.pg_proc p on p.oid = c.function
    ) d
    where t >= 16384;
    drop view pg_temp.freshet_probe;

    with recursive part (of, tree) as (
        select 0::oid, probe.tree collate pg_catalog."C"
        union
        select x.of, x.tree
        from part b cross join lateral (
            select p.oid as of, p.proargdefaults::text collate pg_catalog."C" as tree
            from freshet.called(b.tree) as c (function) join pg_catalog.pg_proc p on p.oid = c.function
            where p.pronargdefaults > 0 and freshet.leaves_out(b.tree, p.oid)
            union all
            select r.ev_class, r.ev_action::text collate pg_catalog."C"
            from pg_catalog.regexp_matches(b.tree, ':relid ([0-9]+)', 'g') as m
            join pg_catalog.pg_class v on v.oid = m[1]::oid and v.relkind = 'v'
            join pg_catalog.pg_rewrite r on r.ev_class = v.oid and r.rulename = '_RETURN'
        ) x
    )
    select coalesce(pg_catalog.string_agg(b.tree, ' '), '') into behind from part b where b.of <> 0;
end
$$;

revoke all on function freshet.probe(oid, text, text, text) from public;
