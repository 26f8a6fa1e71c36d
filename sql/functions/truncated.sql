-- What follows from a truncation that a lane has come to, which leaves no tuples: entries without a
-- row are looked for once the lanes have passed `after`. A group may have rows in other partitions,
-- and is no orphan.
create or replace function freshet.truncated(sink integer, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from freshet.sink s where s.id = truncated.sink and s.grouped) then
        perform freshet.request_rewarm(truncated.sink);
    end if;
    perform freshet.request_sweep(truncated.sink, after);
end
$$;

revoke all on function freshet.truncated(integer, pg_snapshot) from public;
