-- Refuses a read of a table that has the source's name and is another one: that is for
-- freshet.mend to follow, or over in a moment. Returns an empty text where it is not.
create or replace function freshet.check_name(name text, relation oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.to_regclass(name) is distinct from relation::pg_catalog.regclass then
        raise exception 'source: another table has the name %', name using errcode = 'object_not_in_prerequisite_state';
    end if;
    return '';
end
$$;

revoke all on function freshet.check_name(text, oid) from public;
