-- Lets a backfill that was paused go on from where it stopped.
create or replace function freshet.resume_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.find_backfill(id);
    perform freshet.continue_backfill(id);
end
$$;

comment on function freshet.resume_backfill(bigint) is 'Lets a backfill that was paused go on from where it stopped.';
revoke all on function freshet.resume_backfill(bigint) from public;
