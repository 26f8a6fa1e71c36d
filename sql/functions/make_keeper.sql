-- Makes the function through which workers look after a source's capture, for tables and
-- triggers are not the workers' own. It has the rights of the source's owner, or of who
-- made it where the owner may not use Freshet; and it does nothing but what freshet.keep
-- does for this one source.
create or replace function freshet.make_keeper(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_keeper  text := pg_catalog.format('freshet.%I', 'keep_' || source);
    v_owner   oid;
    v_role    text;
begin
    if pg_catalog.to_regprocedure(v_keeper || '(text, integer)') is null then
        execute pg_catalog.format($sql$
create function %s(task text, segment integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return freshet.keep(%s, task, segment);
end
$$
$sql$, v_keeper, source);
        execute pg_catalog.format('revoke all on function %s(text, integer) from public', v_keeper);
        foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
            if pg_catalog.to_regrole(v_role) is not null then
                execute pg_catalog.format('grant execute on function %s(text, integer) to %I', v_keeper, v_role);
            end if;
        end loop;
    end if;
    -- One that an earlier version has made.
    if exists (
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and p.proconfig is distinct from array['search_path=pg_catalog, pg_temp'] and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) set search_path = pg_catalog, pg_temp', v_keeper);
    end if;
    select c.relowner into v_owner
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = make_keeper.source;
    if pg_catalog.has_schema_privilege(v_owner, 'freshet', 'create') and exists (
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and p.proowner <> v_owner and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) owner to %I', v_keeper, pg_catalog.pg_get_userbyid(v_owner));
    elsif exists (
        -- That of a former owner, who can do nothing for this one.
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and not pg_catalog.pg_has_role(p.proowner, v_owner, 'usage') and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) owner to %I', v_keeper, current_user);
    end if;
end
$body$;

revoke all on function freshet.make_keeper(integer) from public;
