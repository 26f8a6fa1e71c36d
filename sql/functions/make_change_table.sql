-- Makes what is missing of a source's change table: the parent, which is what is read; a
-- column for each key column of its sinks, one for the value it had before where a row is of an
-- update that changed the tuple, and one for lists of its values, in which one row
-- has the tuples of many rows of a statement; the segments, of which triggers write to
-- one while consumed ones are emptied whole; and a sequence that says whether gaps went unrecorded.
--
-- All of it belongs to the keeper's owner, who empties it with his rights: another could have a trigger
-- of his run with them. The source's owner, as whom triggers run, is granted what they need.
drop sequence if exists freshet.unrecorded; -- the one for all sources that there was
create or replace function freshet.make_change_table(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   freshet.source;
    v_owner    oid;
    v_keeper   oid;   -- the owner of all this
    v_changes  text;
    v_segment  text;
    v_column   record;
    v_number   integer;
    v_own      pg_catalog.regclass;
    v_right    record;
    v_unrecorded  text := pg_catalog.format('freshet.%I', 'changes_' || source || '_unrecorded');
begin
    select * into strict v_source from freshet.source s where s.id = make_change_table.source;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    select p.proowner into strict v_keeper from pg_catalog.pg_proc p
    where p.oid = pg_catalog.format('freshet.%I(text, integer)', 'keep_' || source)::pg_catalog.regprocedure;
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
    -- New ones, and those of a keeper that was given another owner.
    for v_own in
        select c.oid::pg_catalog.regclass
        from pg_catalog.pg_class c
        where c.relowner <> v_keeper
          and (c.oid = v_changes::pg_catalog.regclass
               or c.oid in (select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = v_changes::pg_catalog.regclass))
    loop
        execute pg_catalog.format('alter table %s owner to %I', v_own, pg_catalog.pg_get_userbyid(v_keeper));
    end loop;
    -- Goes on where not even a gap could be recorded, such as on a disk that is full: it needs no room, and
    -- stays when a transaction is rolled back.
    if pg_catalog.to_regclass(v_unrecorded) is null then
        execute pg_catalog.format('create sequence %s', v_unrecorded);
        execute pg_catalog.format('alter sequence %s owner to %I', v_unrecorded, pg_catalog.pg_get_userbyid(v_keeper));
        execute pg_catalog.format('alter sequence %s owned by %s.id', v_unrecorded, v_changes);
        execute pg_catalog.format('revoke all on sequence %s from public', v_unrecorded);
    end if;

    -- What triggers need is granted to the source's owner himself, for he may leave the roles that have it
    -- too, and taken from who owned it before.
    for v_right in
        select case c.relkind when 'S' then 'usage on sequence ' else 'insert on ' end || c.oid::pg_catalog.regclass as name, g.grantee, g.owner
        from pg_catalog.pg_class c
        cross join lateral (
            select v_owner as grantee, true as owner
            where v_owner <> c.relowner and not exists (
                select from pg_catalog.aclexplode(c.relacl) a
                where a.grantee = v_owner and a.privilege_type = case c.relkind when 'S' then 'USAGE' else 'INSERT' end)
            union all
            select a.grantee, false from pg_catalog.aclexplode(c.relacl) a
            where a.privilege_type = case c.relkind when 'S' then 'USAGE' else 'INSERT' end
              and a.grantee <> all (array[0, v_owner, c.relowner])
              and pg_catalog.pg_get_userbyid(a.grantee) not in ('freshet_admin', 'freshet_worker')) g
        where c.relnamespace = 'freshet'::pg_catalog.regnamespace
          and c.relname ~ ('^changes_' || source || '_(id|unrecorded|[0-9]+)$') and c.relkind in ('r', 'S')
    loop
        execute pg_catalog.format(case when v_right.owner then 'grant %s to %I' else 'revoke %s from %I' end,
            v_right.name, pg_catalog.pg_get_userbyid(v_right.grantee));
    end loop;
end
$$;

revoke all on function freshet.make_change_table(integer) from public;
