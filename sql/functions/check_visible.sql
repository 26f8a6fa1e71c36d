-- Refuses to go on if row security could hide rows of a source from a role, this one by
-- default: a hidden row would look like a deleted one. Returns an empty text. Called in the
-- statement that reads the source, or under a lock on it: policies then stay as they are.
create or replace function freshet.check_visible(source oid, role oid default null)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role  oid := coalesce(role, pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)));
begin
    if freshet.hides_rows(source, v_role) then
        raise exception 'source: row security could hide rows of % from the role %, which would look like deletes',
            source::pg_catalog.regclass, v_role::pg_catalog.regrole
            using errcode = 'insufficient_privilege',
                  hint = case when exists (
                          select from pg_catalog.pg_policy p
                          where p.polrelid = check_visible.source and not p.polpermissive and p.polcmd in ('r', '*')
                            and exists (select from pg_catalog.unnest(p.polroles) as r (oid)
                                        where r.oid = 0 or pg_catalog.pg_has_role(v_role, r.oid, 'usage')))
                      then pg_catalog.format('A restrictive policy applies to it: have that policy name other roles, then run: ')
                      else 'Run: ' end
                      || pg_catalog.format('create policy freshet on %s for select to %s using (true);',
                          source::pg_catalog.regclass, v_role::pg_catalog.regrole);
    end if;
    return '';
end
$$;

revoke all on function freshet.check_visible(oid, oid) from public;
