-- Whether a segment of a change table has changes that a snapshot does not see. Volatile:
-- what was committed before the segment was locked has to show.
create or replace function freshet.has_unseen(source integer, segment integer, seen pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_found  boolean;
begin
    execute pg_catalog.format(
        'select exists (select from only freshet.%I c '
        'where c.xid >= pg_catalog.pg_snapshot_xmin($1) and not pg_catalog.pg_visible_in_snapshot(c.xid, $1))',
        'changes_' || source || '_' || segment)
    into v_found
    using seen;
    return v_found;
end
$$;

revoke all on function freshet.has_unseen(integer, integer, pg_snapshot) from public;
