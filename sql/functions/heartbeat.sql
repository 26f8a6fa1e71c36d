-- What a worker says once a second, for all its leases in one statement: that it
-- lives, how far each has come and what went wrong. Returns the leases that it still
-- holds, each with its sink's revision and whether this was written down; the others have a
-- new owner. Of a life of the database that is over, as a crash ends it, nothing is written
-- down: the transaction ids in its cursors may mean something else by now. It waits for nobody: a lease that somebody has locked is written with the next
-- heartbeat, and no other for its sake.
create or replace function freshet.heartbeat(
    worker      text,
    targets     text[],
    transforms  text[],
    leases      bigint[],
    epochs      bigint[],
    lives       text[],
    cursors     text[],
    passed      text[],
    as_of       timestamptz[],
    errors      text[])
returns table (lease bigint, revision integer, written boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free     bigint[];
    v_written  bigint[];
begin
    insert into freshet.worker as w (id, role, targets, transforms)
    values (heartbeat.worker, current_user, heartbeat.targets, heartbeat.transforms)
    on conflict (id) do update
    set heartbeat_at = pg_catalog.clock_timestamp(), targets = excluded.targets, transforms = excluded.transforms;

    select pg_catalog.array_agg(f.id) into v_free
    from (
        select l.id from freshet.lease l where l.id = any (leases) and l.holder = heartbeat.worker
        for no key update skip locked) f;
    with said as (
        select v.lease, v.epoch, v.error,
               case when o.current then v.cursor end as cursor,
               case when o.current then v.passed end as passed,
               case when o.current then v.as_of end as as_of
        from rows from (
            pg_catalog.unnest(leases), pg_catalog.unnest(epochs), pg_catalog.unnest(lives), pg_catalog.unnest(cursors),
            pg_catalog.unnest(heartbeat.passed), pg_catalog.unnest(heartbeat.as_of), pg_catalog.unnest(errors)
        ) as v (lease, epoch, life, cursor, passed, as_of, error)
        cross join freshet.incarnation() as i (incarnation)
        cross join lateral (select v.life is null or v.life = i.incarnation) as o (current)),
    beaten as (
        update freshet.lease l
        set heartbeat_at = pg_catalog.clock_timestamp(),
            cursor = coalesce(v.cursor, l.cursor),
            passed = coalesce(v.passed::pg_snapshot, l.passed),
            as_of = coalesce(v.as_of, l.as_of),
            -- It says the same again and again while it stands still.
            lapsed = l.lapsed and (v.passed is null or v.passed = l.passed::text),
            last_error = coalesce(v.error, l.last_error),
            last_error_at = case when v.error is null then l.last_error_at else pg_catalog.clock_timestamp() end
        from said v
        where l.id = any (v_free) and l.id = v.lease and l.epoch = v.epoch and l.holder = heartbeat.worker
        returning l.id)
    select pg_catalog.array_agg(b.id) into v_written from beaten b;

    return query
    select l.id, s.revision, coalesce(l.id = any (v_written), false)
    from rows from (pg_catalog.unnest(leases), pg_catalog.unnest(epochs)) as v (lease, epoch)
    join freshet.lease l on l.id = v.lease and l.epoch = v.epoch and l.holder = heartbeat.worker
    join freshet.sink s on s.id = l.sink_id;
end
$$;

revoke all on function freshet.heartbeat(text, text[], text[], bigint[], bigint[], text[], text[], text[], timestamptz[], text[]) from public;
