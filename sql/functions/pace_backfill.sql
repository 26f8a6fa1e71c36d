-- How long the range of this lease has to wait before it reads so many rows, so that all
-- ranges of its backfill together keep to its rate. Zero without one.
create or replace function freshet.pace_backfill(lease bigint, rows bigint)
returns interval
language sql
set search_path = ''
as $$
    update freshet.backfill_run b
    set paced_until = greatest(b.paced_until, pg_catalog.clock_timestamp()) + pace_backfill.rows / b.rate::double precision * interval '1 second'
    from freshet.backfill_range r
    where r.lease_id = pace_backfill.lease and b.id = r.run_id and b.rate is not null
    returning greatest(b.paced_until - pace_backfill.rows / b.rate::double precision * interval '1 second' - pg_catalog.clock_timestamp(), interval '0')
$$;

revoke all on function freshet.pace_backfill(bigint, bigint) from public;
