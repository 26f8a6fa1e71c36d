-- The other transactions that have a table or its partitions locked so that `lock table …
-- in … mode` waits for them, or that have a change table locked at all. Null if nobody has.
create or replace function freshet.holders_of(source oid, mode text, changes text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select pg_catalog.array_agg(distinct l.virtualtransaction)
        from pg_catalog.pg_locks l
        where l.locktype = 'relation' and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
          and (l.relation = pg_catalog.to_regclass(changes)
            or l.relation in (select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = pg_catalog.to_regclass(changes))
            or (l.relation = holders_of.source or l.relation in (select p.relid from freshet.partitions_of(source) p))
               and (holders_of.mode = 'access exclusive' or l.mode not in ('AccessShareLock', 'RowShareLock'))));
end
$$;

revoke all on function freshet.holders_of(oid, text, text) from public;
