-- Makes what is missing of a source's change table: the parent, which is what is read; a
-- column for each key column of its sinks, one for the value it had before where a row is of an
-- update that changed the tuple, and one for lists of its values, in which one row
-- has the tuples of many rows of a statement; the segments, of which triggers write to
-- one while consumed ones are emptied whole; and a sequence that says whether gaps went unrecorded.
create or replace function freshet.make_change_table(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   freshet.source;
    v_owner    oid;
    v_changes  text;
    v_segment  text;
    v_column   record;
    v_number   integer;
    v_own      pg_catalog.regclass;
    v_unrecorded  text := pg_catalog.format('freshet.%I', 'changes_' || source || '_unrecorded');
begin
    select * into strict v_source from freshet.source s where s.id = make_change_table.source;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    perform freshet.admit_owner(v_owner);
    v_changes := pg_catalog.format('freshet.%I', 'changes_' || source);

    if pg_catalog.to_regclass(v_changes) is null then
        execute pg_catalog.format('create sequence freshet.%I cache 100', 'changes_' || source || '_id');
        execute pg_catalog.format(
            'create table %s ('
            'id bigint not null default pg_catalog.nextval(%L), '
            'xid xid8 not null default pg_catalog.pg_current_xact_id(), '
            'at timestamptz not null default current_timestamp, '
            'op "char" not null, '
            'tuples smallint)',
            v_changes, pg_catalog.format('freshet.%I', 'changes_' || source || '_id'));
        execute pg_catalog.format('alter sequence freshet.%I owned by %s.id', 'changes_' || source || '_id', v_changes);
        -- Nothing is ever in the parent itself; without an index it would still be scanned.
        execute pg_catalog.format('create index on %s (xid, id)', v_changes);
        execute pg_catalog.format('revoke all on %s from public', v_changes);
    end if;

    -- Only those that are not there: even an ALTER TABLE with nothing to do waits for whoever
    -- reads the change table, and workers would wait for it.
    for v_column in
        select c.name, c.type,
               case when a.attcollation = 0 then ''
                   else (select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)
                         from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                         where c.oid = a.attcollation) end as collation
        from pg_catalog.unnest(v_source.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = v_source.relid and a.attnum = k.attnum
        cross join lateral (values
            (1, 'k' || a.attnum, freshet.change_type(a.atttypid)),
            (2, 'o' || a.attnum, freshet.change_type(a.atttypid)),
            (3, 'k' || a.attnum || 's', freshet.list_type(a.atttypid))) as c (n, name, type)
        where c.type is not null and not exists (
            select from pg_catalog.pg_attribute h
            where h.attrelid = v_changes::pg_catalog.regclass and h.attname = c.name and not h.attisdropped)
        order by a.attnum, c.n
    loop
        execute pg_catalog.format('alter table %s add column %I %s%s', v_changes, v_column.name, v_column.type, v_column.collation);
    end loop;

    -- The second is for the first rotation: who reads has to know a segment for a while
    -- before anybody writes to it.
    insert into freshet.segment (source_id, number, current_since)
    select source, v_source.segment + n, case n when 0 then pg_catalog.clock_timestamp() end
    from pg_catalog.generate_series(0, 1) as n
    where not exists (select from freshet.segment g where g.source_id = make_change_table.source);
    for v_number in
        select g.number from freshet.segment g where g.source_id = make_change_table.source order by g.number
    loop
        v_segment := pg_catalog.format('freshet.%I', 'changes_' || source || '_' || v_number);
        if pg_catalog.to_regclass(v_segment) is null then
            execute pg_catalog.format('create table %s () inherits (%s)', v_segment, v_changes);
            execute pg_catalog.format('create index on %s (xid, id)', v_segment);
            execute pg_catalog.format('revoke all on %s from public', v_segment);
        end if;
    end loop;
    -- New ones, and those of a source that was given another owner.
    for v_own in
        select c.oid::pg_catalog.regclass
        from pg_catalog.pg_class c
        where c.relowner <> v_owner
          and (c.oid = v_changes::pg_catalog.regclass
               or c.oid in (select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = v_changes::pg_catalog.regclass))
    loop
        execute pg_catalog.format('alter table %s owner to %I', v_own, pg_catalog.pg_get_userbyid(v_owner));
    end loop;
    -- Goes on where not even a gap could be recorded, such as on a disk that is full: it needs no room, and
    -- stays when a transaction is rolled back.
    if pg_catalog.to_regclass(v_unrecorded) is null then
        execute pg_catalog.format('create sequence %s', v_unrecorded);
        execute pg_catalog.format('alter sequence %s owner to %I', v_unrecorded, pg_catalog.pg_get_userbyid(v_owner));
        execute pg_catalog.format('alter sequence %s owned by %s.id', v_unrecorded, v_changes);
        execute pg_catalog.format('revoke all on sequence %s from public', v_unrecorded);
    end if;
end
$$;

revoke all on function freshet.make_change_table(integer) from public;
