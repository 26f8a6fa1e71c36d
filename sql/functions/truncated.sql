-- What follows from a truncation that a lane of a target has come to, which leaves no tuples: entries
-- without a row are looked for once the lanes there have passed `after`. A group may have rows in
-- another partition, and is no orphan then.
create or replace function freshet.truncated(sink integer, target text, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from freshet.sink s join freshet.source o on o.id = s.source_id join pg_catalog.pg_class c on c.oid = o.relid
        where s.id = truncated.sink and s.grouped and c.relkind = 'p')
    then
        perform freshet.rewarm_target(truncated.sink, truncated.target, true);
    end if;
    perform freshet.sweep_target(truncated.sink, truncated.target, after);
end
$$;

revoke all on function freshet.truncated(integer, text, pg_snapshot) from public;
