-- Makes sure that the owner of a source can own its trigger function, which runs with his rights
-- and with nobody else's. Who may make something in the schema owns the rest of the capture too.
create or replace function freshet.admit_owner(owner oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema  oid := 'freshet'::pg_catalog.regnamespace;
    v_gaps    oid := 'freshet.record_gap(integer, text, text, text)'::pg_catalog.regprocedure;
    v_super   boolean := (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
begin
    if not (select pg_catalog.pg_has_role(n.nspowner, 'usage') from pg_catalog.pg_namespace n where n.oid = v_schema) then
        -- Only a superuser can give what is made here to somebody who may not make it.
        if pg_catalog.has_schema_privilege(owner, v_schema, 'usage')
            and pg_catalog.has_function_privilege(owner, v_gaps, 'execute')
            and (pg_catalog.has_schema_privilege(owner, v_schema, 'create') or v_super)
        then
            return;
        end if;
        raise exception 'source: its owner "%" may not use Freshet', pg_catalog.pg_get_userbyid(owner)
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Have somebody who may do so run: grant freshet_admin to %I;', pg_catalog.pg_get_userbyid(owner));
    end if;
    -- Granted to the owner himself even if he has it as a member of some role: capture is to
    -- go on when he is no member any more.
    if not exists (
        select from pg_catalog.pg_namespace n cross join lateral pg_catalog.aclexplode(n.nspacl) a
        where n.oid = v_schema and a.grantee = owner and a.privilege_type = 'USAGE')
    then
        execute pg_catalog.format('grant usage on schema freshet to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
    if not exists (
        select from pg_catalog.pg_proc p cross join lateral pg_catalog.aclexplode(p.proacl) a
        where p.oid = v_gaps and a.grantee = owner and a.privilege_type = 'EXECUTE')
    then
        execute pg_catalog.format('grant execute on function freshet.record_gap(integer, text, text, text) to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
    if not v_super and not pg_catalog.has_schema_privilege(owner, v_schema, 'create') then
        execute pg_catalog.format('grant create on schema freshet to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
end
$$;

revoke all on function freshet.admit_owner(oid) from public;
