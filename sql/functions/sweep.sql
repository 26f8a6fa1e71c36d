-- Has a worker look for entries of a sink that have no row any more, and remove them.
create or replace function freshet.sweep(sink text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(sink);
begin
    perform freshet.check_owner(v_sink.id);
    perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
end
$$;

comment on function freshet.sweep(text) is 'Removes entries that have no row any more.';
revoke all on function freshet.sweep(text) from public;
