-- Writes the capture of a source anew: its keeper, the change table, which is the keeper's
-- owner's, and the trigger function and the triggers, which are the source's owner's. Called with
-- the source locked as CREATE TRIGGER locks it.
create or replace function freshet.make_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Those who look after it have these locks already; not who was told to run this.
    perform freshet.lock_capture(source);
    perform freshet.lock_source(s.relid, 'share row exclusive', interval '10 seconds', true)
    from freshet.source s where s.id = make_capture.source;
    perform freshet.admit_owner(c.relowner)
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = make_capture.source;
    perform freshet.make_keeper(source);
    perform freshet.make_change_table(source);
    perform freshet.make_capture_function(source);
    perform freshet.make_triggers(source);
    perform freshet.grant_source(source);
end
$$;

revoke all on function freshet.make_capture(integer) from public;
