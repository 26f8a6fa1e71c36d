-- Takes note of who keeps a source from being mended. That is no fault, for whoever creates or drops a
-- sink, rotates or mends is soon done; but it is an error once the same transaction has done so for
-- three seconds. It may be one that created a sink and was left open, and then nothing is mended.
create or replace function freshet.note_barred(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_by   text;
    v_pid  integer;
begin
    select l.virtualtransaction, l.pid into v_by, v_pid
    from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
      and (l.classid = 1181905014 and l.objid = source::oid and l.objsubid = 2 or l.classid = 0 and l.objid = 1181905013 and l.objsubid = 1)
    order by l.classid = 0
    limit 1;
    if v_by is null then
        return;
    end if;
    if exists (
        select from freshet.source s
        where s.id = note_barred.source and s.barred_by = v_by and s.barred_since < pg_catalog.clock_timestamp() - interval '3 seconds')
    then
        raise exception 'a transaction that changes sinks, or looks after capture, does not end (%)', coalesce('process ' || v_pid, 'it is prepared')
            using errcode = 'lock_not_available';
    end if;
    update freshet.source s
    set barred_by = v_by, barred_since = pg_catalog.clock_timestamp()
    where s.id = (select l.id from freshet.source l where l.id = note_barred.source for no key update skip locked)
      and s.barred_by is distinct from v_by;
end
$$;

revoke all on function freshet.note_barred(integer) from public;
