-- Whether the change table of a source has anything that `passed` does not see.
-- Stable, so that it looks with the snapshot of the statement that calls it.
create or replace function freshet.has_changes(source integer, passed pg_snapshot)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_found  boolean;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        -- The lane itself has to find out why.
        return true;
    end if;
    execute pg_catalog.format(
        'select exists (select from freshet.window_ranges($1, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select from freshet.%I c where c.xid >= r.lo and c.xid <= r.hi limit 1) c)',
        'changes_' || source)
    into v_found
    using passed;
    return v_found;
end
$$;

revoke all on function freshet.has_changes(integer, pg_snapshot) from public;
