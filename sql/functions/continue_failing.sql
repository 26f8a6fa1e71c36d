-- Lets a sink go on that was stopped so. Where somebody else did, nothing happens.
create or replace function freshet.continue_failing(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.sink s
    set state = 'active', failing = null, revision = s.revision + 1
    where s.id = continue_failing.sink and s.state = 'failing';
end
$$;

revoke all on function freshet.continue_failing(integer) from public;
