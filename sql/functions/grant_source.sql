-- Lets Freshet's roles read a source and its change table, and write to the latter.
-- What this role may not grant is said in a notice, as the statement to run.
create or replace function freshet.grant_source(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source  record;
    v_role    text;
    v_table   record;
begin
    select s.relid into v_source
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = grant_source.source;
    if not found then
        return;
    end if;

    foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
        continue when pg_catalog.to_regrole(v_role) is null;
        for v_table in
            select pg_catalog.format(case c.relkind when 'S' then 'grant usage on sequence %s to %I' else 'grant select, insert on %s to %I' end,
                       c.oid::pg_catalog.regclass, v_role) as grant, c.relowner as owner
            from pg_catalog.pg_class c
            where c.relnamespace = 'freshet'::pg_catalog.regnamespace
              and c.relname ~ ('^changes_' || source || '(_|$)')
              and case c.relkind
                  when 'S' then not pg_catalog.has_sequence_privilege(v_role, c.oid, 'usage')
                  when 'r' then not (pg_catalog.has_table_privilege(v_role, c.oid, 'select')
                                     and pg_catalog.has_table_privilege(v_role, c.oid, 'insert'))
                  else false end
        loop
            if pg_catalog.pg_has_role(v_table.owner, 'usage') then
                execute v_table.grant;
            else
                raise notice 'the role % may not use the changes of % yet', v_role, v_source.relid::pg_catalog.regclass
                    using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_table.owner), v_table.grant);
            end if;
        end loop;
    end loop;

    perform freshet.grant_reading(v_source.relid);
end
$$;

revoke all on function freshet.grant_source(integer) from public;
