-- Between two chunks of a backfill range, in one transaction: the chunk that has
-- been written is validated, and the intent of the next one becomes durable before
-- a byte of it is. Without a snapshot it only validates. False if the lease is no
-- longer held under `epoch`.
create or replace function freshet.next_chunk(
    lease     bigint,
    epoch     bigint,
    landed    boolean,
    rows_read bigint,
    lower     text[],
    upper     text[],
    snapshot  pg_snapshot)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    perform from freshet.lease l
    where l.id = next_chunk.lease and l.epoch = next_chunk.epoch
    for update;
    if not found then
        return false;
    end if;

    perform freshet.validate_intent(lease, landed);

    -- request_rewarm must not take this run for one that has not begun at the same time.
    perform from freshet.backfill_run b
    where b.id = (select r.run_id from freshet.backfill_range r where r.lease_id = next_chunk.lease and r.position is null)
    for update;

    -- The first chunk is the one that says from which moment on everything was read.
    if snapshot is not null and exists (
        select from freshet.backfill_range r
        join freshet.backfill_run b on b.id = r.run_id
        where r.lease_id = next_chunk.lease and r.position is null
          and not freshet.snapshot_covers(snapshot, b.requested))
    then
        raise exception 'the backfill was asked for again after this chunk was read'
            using errcode = 'serialization_failure';
    end if;

    update freshet.backfill_range r
    set intent_lower = next_chunk.lower,
        intent_upper = next_chunk.upper,
        intent_snapshot = next_chunk.snapshot,
        intent_incarnation = freshet.incarnation(),
        intent_rows = rows_read,
        rows_done = r.rows_done + rows_read
    where r.lease_id = next_chunk.lease;
    return true;
end
$$;

revoke all on function freshet.next_chunk(bigint, bigint, boolean, bigint, text[], text[], pg_snapshot) from public;
