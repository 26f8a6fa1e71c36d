-- Has the entries of a sink removed once more from a target that they were removed from, for
-- the target has the data of before then: somebody has seen there that they are the sink's.
-- True if there is something to do. Which sinks there are is not a worker's business, so this
-- has the rights of who installed it; all it makes is a sink that is being dropped.
create or replace function freshet.remove_again(sink integer, target text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    v_removed  freshet.removed;
    v_sink     freshet.sink;
    v_lease    bigint;
begin
    perform freshet.lock_definitions();
    select * into v_removed from freshet.removed r
    where r.sink_id = remove_again.sink and r.target = remove_again.target;
    if not found then
        return false;
    end if;
    v_sink := pg_catalog.jsonb_populate_record(null::freshet.sink, v_removed.sink);
    if exists (
        -- Whoever writes the same keys there now looks at each of them, when the target has gone back.
        select from freshet.sink s
        where s.state not in ('retiring', 'dropping') and remove_again.target = any (s.targets)
          and (s.id = v_sink.id or freshet.key_tokens(s.key_parts) = freshet.key_tokens(v_sink.key_parts)))
    or exists (select from freshet.sink s where s.id = v_sink.id and s.state in ('retiring', 'dropping'))
    or exists (select from freshet.lease l where l.sink_id = v_sink.id and l.kind = 'purge' and l.target = remove_again.target)
    then
        return false;
    end if;

    if not exists (select from freshet.sink s where s.id = v_sink.id) then
        insert into freshet.source overriding system value
        select (pg_catalog.jsonb_populate_record(null::freshet.source, v_removed.source || '{"relid": null}')).*
        on conflict (id) do nothing;
        v_sink.name := pg_catalog.split_part(v_sink.name, '~', 1) || '~' || v_sink.id;
        v_sink.state := 'dropping';
        v_sink.broken := null;
        v_sink.definition := v_sink.definition + 1;
        v_sink.targets := array[remove_again.target];
        insert into freshet.sink overriding system value select v_sink.*;
    end if;
    -- The lanes that it had, which nobody writes by any more.
    insert into freshet.lease (sink_id, kind, target, part, cursor, stamped, definition, finished_at)
    select v_sink.id, 'retired', remove_again.target, p.shard::text, '', true, 2147483647, pg_catalog.clock_timestamp()
    from pg_catalog.generate_series(0, v_sink.shards - 1) as p (shard)
    on conflict do nothing;
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (v_sink.id, 'purge', remove_again.target, 'purge', '')
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease);
    return true;
end
$$;

revoke all on function freshet.remove_again(integer, text) from public;
