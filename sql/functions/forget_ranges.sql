-- Forgets the ranges of a sink's backfills that were over before this one: of all of them,
-- or only of those that were of some rows and have been over for a day.
create or replace function freshet.forget_ranges(sink integer, before bigint, partial boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    for v_run in
        select o.id
        from freshet.backfill_run o join freshet.backfill_range r on r.run_id = o.id
        where o.sink_id = forget_ranges.sink and o.id < before
          and (not partial or o.filter is not null and o.finished_at < pg_catalog.clock_timestamp() - interval '1 day')
        group by o.id
        having pg_catalog.bool_and(r.finished_at is not null)
    loop
        update freshet.backfill_run b
        set rows_done = b.rows_done + (select sum(r.rows_done) from freshet.backfill_range r where r.run_id = v_run)
        where b.id = v_run;
        delete from freshet.lease l
        using freshet.backfill_range r
        where r.lease_id = l.id and r.run_id = v_run;
    end loop;
end
$$;

revoke all on function freshet.forget_ranges(integer, bigint, boolean) from public;
