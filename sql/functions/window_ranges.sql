-- The transaction ids that are finished in `new` and were not in `old`, as closed
-- ranges in ascending order. Running transactions are cut out, so that the rows a
-- long writer has not committed are never walked over.
create or replace function freshet.window_ranges(old pg_snapshot, new pg_snapshot)
returns table (lo xid8, hi xid8)
language plpgsql
immutable
rows 4
set search_path = pg_catalog, pg_temp
as $$
declare
    v_next    bigint := pg_catalog.pg_snapshot_xmax(old)::text::bigint;
    v_end     bigint := pg_catalog.pg_snapshot_xmax(new)::text::bigint;
    v_running bigint;
begin
    -- Mostly nothing was running: a query for nothing takes longer than all else.
    if pg_catalog.pg_snapshot_xmin(old) < pg_catalog.pg_snapshot_xmax(old) then
        for lo in
            select x from pg_catalog.pg_snapshot_xip(old) as x
            where pg_catalog.pg_visible_in_snapshot(x, new)
            order by x
        loop
            hi := lo;
            return next;
        end loop;
    end if;

    if pg_catalog.pg_snapshot_xmin(new) < pg_catalog.pg_snapshot_xmax(new) then
        for v_running in
            select x::text::bigint as xid from pg_catalog.pg_snapshot_xip(new) as x
            where x::text::bigint >= v_next
            order by xid
        loop
            if v_running > v_next then
                lo := v_next::text::xid8;
                hi := (v_running - 1)::text::xid8;
                return next;
            end if;
            v_next := v_running + 1;
        end loop;
    end if;

    if v_end > v_next then
        lo := v_next::text::xid8;
        hi := (v_end - 1)::text::xid8;
        return next;
    end if;
end
$$;

revoke all on function freshet.window_ranges(pg_snapshot, pg_snapshot) from public;
