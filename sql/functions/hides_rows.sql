-- Whether row security could hide rows of a table from a role. Only a policy that lets
-- everything through is taken for one that hides nothing.
create or replace function freshet.hides_rows(relation oid, role oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with policies as (
        select p.polpermissive as permissive, coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true') = 'true' as open
        from pg_catalog.pg_policy p
        where p.polrelid = hides_rows.relation and p.polcmd in ('r', '*')
          and exists (
              select from pg_catalog.unnest(p.polroles) as r (oid)
              where r.oid = 0 or pg_catalog.pg_has_role(hides_rows.role, r.oid, 'usage'))
    )
    select c.relrowsecurity
       and not r.rolsuper and not r.rolbypassrls
       and (c.relforcerowsecurity or not pg_catalog.pg_has_role(r.oid, c.relowner, 'usage'))
       and (not exists (select from policies p where p.permissive and p.open)
            or exists (select from policies p where not p.permissive and not p.open))
    from pg_catalog.pg_class c, pg_catalog.pg_roles r
    where c.oid = hides_rows.relation and r.oid = hides_rows.role
$$;

revoke all on function freshet.hides_rows(oid, oid) from public;
