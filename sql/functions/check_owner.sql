-- Refuses who does not own the source of a sink. A source that is gone anybody may
-- clear away.
create or replace function freshet.check_owner(sink integer)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner  oid;
    v_name   text;
begin
    select c.relowner, s.name into v_owner, v_name
    from freshet.sink s
    join freshet.source o on o.id = s.source_id
    left join pg_catalog.pg_class c on c.oid = o.relid
    where s.id = check_owner.sink;
    if not pg_catalog.pg_has_role(v_owner, 'usage') then
        raise exception 'name: only the owner of its source may do that with the sink "%"', v_name
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Run this as %I.', pg_catalog.pg_get_userbyid(v_owner));
    end if;
end
$$;

revoke all on function freshet.check_owner(integer) from public;
