-- Who else has the keys of a lane, and what to do about it; null if nobody has.
create or replace function freshet.obstacle(sink freshet.sink, lease freshet.lease)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when lease.blocked > 0 then pg_catalog.format(
            '%s keys of the form %s are there already and not from this sink: remove them, or take them over with '
            'select freshet.alter_sink(%L, adopt => true)', lease.blocked, sink.key, sink.name)
        when lease.blocked_by is not null then pg_catalog.format(
            '%s writes keys of the form %s: drop that sink, or take its keys over with '
            'select freshet.alter_sink(%L, adopt => true)', lease.blocked_by, sink.key, sink.name)
        when lease.rival is not null then pg_catalog.format(
            'a copy of this database (%s) writes the same entries: end its workers, or give them another Redis', lease.rival)
    end
$$;

revoke all on function freshet.obstacle(freshet.sink, freshet.lease) from public;
