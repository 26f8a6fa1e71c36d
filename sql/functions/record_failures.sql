-- Notes entries of a lease's sink and target that fail, before they are removed: keys, their
-- tuples as text[], the SQLSTATE and the message of each, and when the rows were read.
-- Returns how many entries fail now in all, null if the lease is no longer held under
-- `epoch`.
create or replace function freshet.record_failures(
    lease     bigint,
    epoch     bigint,
    read_at   timestamptz,
    keys      text[],
    tuples    text[],
    codes     text[],
    messages  text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  freshet.lease;
begin
    select * into v_lease from freshet.lease l
    where l.id = record_failures.lease and l.epoch = record_failures.epoch;
    if not found then
        return null;
    end if;

    -- In the order of the keys: a lane and a backfill may note the same ones.
    insert into freshet.failure as f (sink_id, target, key, tuple, code, message, read_at, next_try)
    select v_lease.sink_id, v_lease.target, v.key, v.tuple::text[], v.code, pg_catalog.left(v.message, 1000),
           record_failures.read_at, pg_catalog.clock_timestamp() + freshet.retry_pause(1)
    from rows from (
        pg_catalog.unnest(keys), pg_catalog.unnest(tuples), pg_catalog.unnest(codes), pg_catalog.unnest(messages)
    ) as v (key, tuple, code, message)
    order by v.key collate "C"
    on conflict on constraint failure_pkey do update
    set tuple = excluded.tuple,
        code = excluded.code,
        message = excluded.message,
        read_at = greatest(f.read_at, excluded.read_at),
        tried_at = pg_catalog.clock_timestamp(),
        attempts = f.attempts + 1,
        next_try = pg_catalog.clock_timestamp() + freshet.retry_pause(f.attempts + 1);

    return (select count(*) from freshet.failure f where f.sink_id = v_lease.sink_id and f.target = v_lease.target);
end
$$;

revoke all on function freshet.record_failures(bigint, bigint, timestamptz, text[], text[], text[], text[]) from public;
