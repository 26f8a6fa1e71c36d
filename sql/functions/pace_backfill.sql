-- Gives the range of this lease leave to read so many rows after a while, so that all ranges
-- of its backfill together keep to its rate: how long, and whether it has leave by then or
-- has to ask again. Leave is given a second ahead at most, for who has it may not come to
-- use it. Without a rate there is no row.
create or replace function freshet.pace_backfill(lease bigint, rows bigint, out pause interval, out granted boolean)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select b.* into v_run
    from freshet.backfill_run b join freshet.backfill_range r on r.run_id = b.id
    where r.lease_id = pace_backfill.lease
    for update of b;
    if v_run.rate is null then
        return;
    end if;
    pause := greatest(v_run.paced_until - pg_catalog.clock_timestamp(), interval '0');
    granted := coalesce(pause, interval '0') <= interval '1 second';
    if granted then
        update freshet.backfill_run b
        set paced_until = greatest(b.paced_until, pg_catalog.clock_timestamp()) + pace_backfill.rows / b.rate::double precision * interval '1 second'
        where b.id = v_run.id;
    end if;
    pause := coalesce(pause, interval '0');
    return next;
end
$$;

revoke all on function freshet.pace_backfill(bigint, bigint) from public;
