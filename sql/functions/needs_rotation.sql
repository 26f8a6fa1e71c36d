-- Whether there is anything for freshet.rotate to do: change tables with something in them, or
-- lanes that may have to lapse. It is asked for all sources in one statement.
create or replace function freshet.needs_rotation(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from freshet.segment g
        where g.source_id = needs_rotation.source
          and pg_catalog.pg_relation_size(pg_catalog.to_regclass('freshet.changes_' || source || '_' || g.number)) > 0)
    or exists (
        select from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where s.source_id = needs_rotation.source and l.kind = 'sync' and not l.lapsed
          and (s.max_pending is not null or coalesce(l.as_of, s.created_at) < pg_catalog.clock_timestamp() - s.max_lag));
end
$$;

revoke all on function freshet.needs_rotation(integer) from public;
