-- Lets the workers read a table. What this role may not grant is said in a notice, as the
-- statement to run.
create or replace function freshet.grant_reading(relation oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_table  record;
    v_grant  text;
begin
    if pg_catalog.to_regrole('freshet_worker') is null then
        return;
    end if;
    select c.relnamespace as schema, c.relowner into strict v_table from pg_catalog.pg_class c where c.oid = relation;
    if not pg_catalog.has_table_privilege('freshet_worker', relation, 'select') then
        v_grant := pg_catalog.format('grant select on %s to freshet_worker', relation::pg_catalog.regclass);
        if pg_catalog.pg_has_role(v_table.relowner, 'usage') then
            execute v_grant;
        else
            raise notice 'the workers may not read % yet', relation::pg_catalog.regclass using hint = 'Run: ' || v_grant || ';';
        end if;
    end if;
    perform freshet.grant_using(v_table.schema);
end
$$;

revoke all on function freshet.grant_reading(oid) from public;
