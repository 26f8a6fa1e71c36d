-- A cursor that has passed nothing that is not finished yet: xmin:xmin: of the
-- present snapshot. A snapshot of one's own transaction counts one's own id as
-- visible, so the snapshot itself would hide what this transaction goes on to write.
create or replace function freshet.cursor_now()
returns pg_snapshot
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select (s.xmin || ':' || s.xmin || ':')::pg_catalog.pg_snapshot
    from (select pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text as xmin) s
$$;

revoke all on function freshet.cursor_now() from public;
