-- Writes the capture of a source anew: its change table, the trigger function and the
-- triggers, all of them the source's owner's. Called with the source locked as CREATE
-- TRIGGER locks it.
create or replace function freshet.make_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.make_change_table(source);
    perform freshet.make_capture_function(source);
    perform freshet.make_triggers(source);
    perform freshet.make_keeper(source);
end
$$;

revoke all on function freshet.make_capture(integer) from public;
