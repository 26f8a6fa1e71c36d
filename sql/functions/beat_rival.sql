-- Notes that a lane has its control key, after a copy of this database had it.
create or replace function freshet.beat_rival(lease bigint, epoch bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.lease l
    set rival = null,
        rivalries = case when l.rivalry_at > pg_catalog.clock_timestamp() - interval '10 minutes' then least(l.rivalries, 100) else 0 end + 1,
        rivalry_at = pg_catalog.clock_timestamp()
    where l.id = beat_rival.lease and l.epoch = beat_rival.epoch
$$;

revoke all on function freshet.beat_rival(bigint, bigint) from public;
