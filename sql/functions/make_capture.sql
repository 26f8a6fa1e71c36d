-- Writes the capture of a source anew: its keeper, the change table, which is the keeper's
-- owner's, and the trigger function and the triggers, which are the source's owner's. Called with
-- the source locked as CREATE TRIGGER locks it.
create or replace function freshet.make_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.admit_owner(c.relowner)
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = make_capture.source;
    perform freshet.make_keeper(source);
    perform freshet.make_change_table(source);
    perform freshet.make_capture_function(source);
    perform freshet.make_triggers(source);
end
$$;

revoke all on function freshet.make_capture(integer) from public;
