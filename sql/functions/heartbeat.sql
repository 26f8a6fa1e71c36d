-- What a worker says once a second, for all its leases in one statement: that it
-- lives, how far each has come and what went wrong. Returns the leases that it still
-- holds, each with its sink's revision; the others have a new owner.
create or replace function freshet.heartbeat(
    worker   text,
    targets  text[],
    leases   bigint[],
    epochs   bigint[],
    cursors  text[],
    passed   text[],
    as_of    timestamptz[],
    errors   text[])
returns table (lease bigint, revision integer)
language plpgsql
set search_path = ''
as $$
begin
    insert into freshet.worker as w (id, role, targets)
    values (heartbeat.worker, current_user, heartbeat.targets)
    on conflict (id) do update
    set heartbeat_at = pg_catalog.clock_timestamp(), targets = excluded.targets;

    -- One order for all who lock more than one lease.
    perform from freshet.lease l where l.id = any (leases) order by l.id for no key update;
    return query
    update freshet.lease l
    set heartbeat_at = pg_catalog.clock_timestamp(),
        cursor = coalesce(v.cursor, l.cursor),
        passed = coalesce(v.passed::pg_snapshot, l.passed),
        as_of = coalesce(v.as_of, l.as_of),
        -- It says the same again and again while it stands still.
        lapsed = l.lapsed and (v.passed is null or v.passed = l.passed::text),
        last_error = coalesce(v.error, l.last_error),
        last_error_at = case when v.error is null then l.last_error_at else pg_catalog.clock_timestamp() end
    from freshet.sink s, rows from (
        pg_catalog.unnest(leases), pg_catalog.unnest(epochs), pg_catalog.unnest(cursors),
        pg_catalog.unnest(heartbeat.passed), pg_catalog.unnest(heartbeat.as_of), pg_catalog.unnest(errors)
    ) as v (lease, epoch, cursor, passed, as_of, error)
    where l.id = v.lease and l.epoch = v.epoch and l.holder = heartbeat.worker and s.id = l.sink_id
    returning l.id, s.revision;
end
$$;

revoke all on function freshet.heartbeat(text, text[], bigint[], bigint[], text[], text[], timestamptz[], text[]) from public;
