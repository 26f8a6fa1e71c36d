-- Lets the workers use a schema, or says in a notice what to run.
create or replace function freshet.grant_using(schema oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema  record;
    v_grant   text;
begin
    select n.nspname as name, n.nspowner as owner into strict v_schema from pg_catalog.pg_namespace n where n.oid = schema;
    if pg_catalog.has_schema_privilege('freshet_worker', schema, 'usage') then
        return;
    end if;
    v_grant := pg_catalog.format('grant usage on schema %I to freshet_worker', v_schema.name);
    if pg_catalog.pg_has_role(v_schema.owner, 'usage') then
        execute v_grant;
    else
        raise notice 'the workers may not use the schema % yet', v_schema.name
            using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_schema.owner), v_grant);
    end if;
end
$$;

revoke all on function freshet.grant_using(oid) from public;
