-- Ends a sink. Capture that no other sink needs goes at once; a worker removes the
-- entries, and until then the sink is `dropping`.
create or replace function freshet.drop_sink(name text, keep_entries boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_lease  bigint;
begin
    perform freshet.lock_definitions();
    v_sink := freshet.find_sink(name);
    perform freshet.check_owner(v_sink.id);
    perform freshet.lock_capture(v_sink.source_id);

    -- Another definition and no leases: whoever still writes for this sink is refused
    -- as soon as the purge has stamped the control keys.
    update freshet.sink s
    set state = 'dropping', definition = s.definition + 1, revision = s.revision + 1, keep_entries = drop_sink.keep_entries
    where s.id = v_sink.id;
    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor)
        select v_sink.id, 'purge', t.target, 'purge', ''
        from pg_catalog.unnest(v_sink.targets) as t (target)
        returning id
    loop
        perform freshet.enqueue_lease(v_lease);
    end loop;

    perform freshet.drop_capture(v_sink.source_id);
end
$$;

comment on function freshet.drop_sink(text, boolean)
is 'Ends a sink and removes its entries from Redis, or leaves them there with keep_entries => true.';
revoke all on function freshet.drop_sink(text, boolean) from public;
