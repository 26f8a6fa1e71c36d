-- Refuses a read of a table that has the source's name and is another one: that is for
-- freshet.mend to follow, or over in a moment.
create or replace function freshet.refuse_name(name text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'source: another table has the name %', name using errcode = 'object_not_in_prerequisite_state';
end
$$;

revoke all on function freshet.refuse_name(text) from public;
