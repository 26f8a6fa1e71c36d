-- Between two chunks of a backfill range, in one transaction: the chunk that has
-- been written is validated, and the intent of the next one becomes durable before
-- a byte of it is. Without a snapshot it only validates. What has landed, and up to which
-- tuple, is as in validate_intent; it had `rows_read` rows. The next one ends with the tuple
-- `upper` or before; null is the end of the range. False if the lease is no longer held
-- under `epoch`.
--
-- `steps` is how many there have been as far as the worker knows. When its connection was
-- lost in a step it cannot tell whether that one is still to come: of the two only
-- one is taken, and the other fails.
--
-- `definition` is the sink's by which the next chunk is read.
create or replace function freshet.next_chunk(
    lease      bigint,
    epoch      bigint,
    definition integer,
    steps      bigint,
    landed     text,
    done       text[],
    rows_read  bigint,
    upper      text[],
    snapshot   pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Whoever holds the range for long must not hold up the worker's heartbeat by the lease.
set lock_timeout = '1s'
as $$
declare
    v_range    freshet.backfill_range;
    v_changes  text;
begin
    -- A crash that forgot the intent would leave nobody to validate what was written under it.
    if snapshot is not null then
        perform freshet.commit_to_disk();
    end if;
    -- Whoever mends capture has the change table before the sink.
    select 'freshet.changes_' || s.source_id into v_changes
    from freshet.lease l join freshet.sink s on s.id = l.sink_id where l.id = next_chunk.lease;
    if pg_catalog.to_regclass(v_changes) is not null then
        execute pg_catalog.format('lock table only %s in row exclusive mode', v_changes);
    end if;
    -- The sink comes before leases for everybody; what is asked for below refers to it.
    perform from freshet.lease l join freshet.sink s on s.id = l.sink_id where l.id = next_chunk.lease for key share of s;
    perform from freshet.lease l
    where l.id = next_chunk.lease and l.epoch = next_chunk.epoch
    for update;
    if not found then
        return false;
    end if;
    -- Nobody else takes a step while the lease is locked.
    if not exists (select from freshet.backfill_range r where r.lease_id = next_chunk.lease and r.steps = next_chunk.steps) then
        raise exception 'this step was taken already' using errcode = 'serialization_failure';
    end if;
    perform freshet.validate_intent(lease, landed, done, rows_read);
    -- Whoever joins the backfill meanwhile waits, and then sees that this range has begun.
    select * into strict v_range from freshet.backfill_range r where r.lease_id = next_chunk.lease for update;
    if snapshot is not null and v_range.superseded then
        raise exception 'another range does this one over again' using errcode = 'serialization_failure';
    end if;
    -- Read before the backfill was asked for, or joined.
    if snapshot is not null and not freshet.snapshot_covers(snapshot, v_range.requested) then
        raise exception 'the backfill was asked for again after this chunk was read'
            using errcode = 'serialization_failure';
    end if;
    -- Nor by a definition of before then. Whoever raises it and asks again has the range locked
    -- until it is there to be seen.
    if snapshot is not null and not exists (
        select from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where l.id = next_chunk.lease and s.definition = next_chunk.definition)
    then
        raise exception 'the sink was redefined after this chunk was read' using errcode = 'serialization_failure';
    end if;

    update freshet.backfill_range r
    set steps = r.steps + 1,
        intent_upper = next_chunk.upper,
        intent_snapshot = next_chunk.snapshot,
        intent_incarnation = freshet.incarnation()
    where r.lease_id = next_chunk.lease;
    return true;
end
$$;

revoke all on function freshet.next_chunk(bigint, bigint, integer, bigint, text, text[], bigint, text[], pg_snapshot) from public;
