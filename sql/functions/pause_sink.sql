-- Stops writing a sink's entries, within a second. Changes are kept until it is resumed.
create or replace function freshet.pause_sink(name text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(name);
begin
    perform freshet.check_owner(v_sink.id);
    update freshet.sink s
    set state = 'paused', failing = null, revision = s.revision + 1
    where s.id = v_sink.id and s.state in ('active', 'failing');
end
$$;

comment on function freshet.pause_sink(text)
is 'Stops writing a sink''s entries, within a second. Changes are kept until it is resumed.';
revoke all on function freshet.pause_sink(text) from public;
