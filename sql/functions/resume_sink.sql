-- Lets a sink that is paused or failing go on from where it stopped.
create or replace function freshet.resume_sink(name text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(name);
begin
    perform freshet.check_owner(v_sink.id);
    update freshet.sink s
    set state = 'active', failing = null, revision = s.revision + 1
    where s.id = v_sink.id and s.state in ('paused', 'failing');
end
$$;

comment on function freshet.resume_sink(text)
is 'Lets a sink that is paused or failing go on from where it stopped.';
revoke all on function freshet.resume_sink(text) from public;
