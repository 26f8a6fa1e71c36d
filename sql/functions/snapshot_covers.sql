-- Whether everything that is visible in `inner` is visible in `outer` too.
create or replace function freshet.snapshot_covers("outer" pg_snapshot, "inner" pg_snapshot)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_snapshot_xmax("outer") >= pg_catalog.pg_snapshot_xmax("inner")
       and not exists (
           select from pg_catalog.pg_snapshot_xip("outer") as x
           where pg_catalog.pg_visible_in_snapshot(x, "inner"))
$$;

revoke all on function freshet.snapshot_covers(pg_snapshot, pg_snapshot) from public;
