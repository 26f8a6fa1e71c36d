-- What somebody has to run before the capture of a source can be looked after again: its
-- owner may not use Freshet any more, or its capture belongs to another. Null if it is
-- neither.
create or replace function freshet.owner_advice(source integer)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format('the owner of %s ', c.oid::pg_catalog.regclass)
        || pg_catalog.concat_ws(', and ',
               case when a.unable then 'may not use Freshet' end,
               case when a.former then pg_catalog.format('does not own its capture, which is still that of %I', pg_catalog.pg_get_userbyid(p.proowner)) end)
        || ': have a superuser run '
        || pg_catalog.concat_ws('; ',
               case when a.unable then pg_catalog.format('grant freshet_admin to %I', pg_catalog.pg_get_userbyid(c.relowner)) end,
               case when a.former then pg_catalog.format('select freshet.make_capture(%s)', s.id) end)
    from freshet.source s
    join pg_catalog.pg_class c on c.oid = s.relid
    left join pg_catalog.pg_proc p on p.oid = pg_catalog.to_regprocedure(pg_catalog.format('freshet.%I(text, integer)', 'keep_' || s.id))
    join pg_catalog.pg_namespace n on n.nspname = 'freshet'
    cross join lateral (
        -- As freshet.admit_owner has it, run by the keeper's owner.
        select not (pg_catalog.has_schema_privilege(c.relowner, n.oid, 'usage')
                    and pg_catalog.has_schema_privilege(c.relowner, n.oid, 'create')
                    and pg_catalog.has_function_privilege(c.relowner, 'freshet.record_gap(integer, text, text, text)', 'execute'))
                   and not pg_catalog.pg_has_role(p.proowner, n.nspowner, 'usage') as unable,
               not pg_catalog.pg_has_role(p.proowner, c.relowner, 'usage') as former
    ) a
    where s.id = owner_advice.source and (a.unable or a.former)
$$;

revoke all on function freshet.owner_advice(integer) from public;
