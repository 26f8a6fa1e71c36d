-- Stops a sink because too many of its entries fail. Its cursors stay where they are.
create or replace function freshet.stop_failing(sink integer, reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.sink s
    set state = 'failing', failing = reason, revision = s.revision + 1
    where s.id = stop_failing.sink and s.state = 'active';
end
$$;

revoke all on function freshet.stop_failing(integer, text) from public;
