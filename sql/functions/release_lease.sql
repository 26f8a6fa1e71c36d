-- Gives a lease to whoever comes next: raises the epoch, draws a nonce and
-- enqueues the successor's job. True if `epoch` still was the lease's epoch;
-- otherwise somebody else has it and nothing happens.
--
-- With `older_than`, only if its heartbeat has been silent for that long: this is
-- how a lease is taken from a worker that died. With `parked` nobody comes next: it is a
-- range's that nobody can work on for now, and gets no job before that has changed.
create or replace function freshet.release_lease(
    lease       bigint,
    epoch       bigint,
    older_than  interval default null,
    parked      boolean default false)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job bigint;
begin
    -- A crash must not forget an epoch that a control key has: there it would say that the
    -- server has gone back in time.
    perform freshet.commit_to_disk();
    update freshet.lease l
    set epoch = l.epoch + 1,
        nonce = pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 16),
        holder = null,
        -- An offer that was not taken is over.
        offered_to = case when l.holder is not null then l.offered_to end,
        heartbeat_at = pg_catalog.clock_timestamp()
    where l.id = release_lease.lease
      and l.epoch = release_lease.epoch
      and (older_than is null or l.heartbeat_at < pg_catalog.clock_timestamp() - older_than)
    returning l.job_id into v_job;
    if not found then
        return false;
    end if;

    -- A job that nobody fetched would only find that its epoch is over, and one that
    -- runs at a silent worker is never heard of again.
    delete from freshet.river_job j
    where j.id = v_job
      and (j.state in ('available', 'scheduled', 'retryable') or (j.state = 'running' and older_than is not null));

    if release_lease.parked then
        update freshet.lease l set job_id = null where l.id = release_lease.lease;
        update freshet.backfill_range r set parked = true where r.lease_id = release_lease.lease;
    else
        perform freshet.enqueue_lease(release_lease.lease);
    end if;
    return true;
end
$$;

revoke all on function freshet.release_lease(bigint, bigint, interval, boolean) from public;
