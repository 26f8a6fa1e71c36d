-- Writes the capture of a source anew: its change table (one parent, one segment
-- to begin with), the trigger function and the triggers, all of them the source's
-- owner's. Called with the source locked as CREATE TRIGGER locks it.
--
-- Statement-level triggers keep bulk writes near their old speed. Row-level ones are
-- for partitioned tables, where the parent's are inherited by every leaf and see the
-- writes sent straight to it, and for tables that a subscription writes to, whose
-- apply worker fires no others.
create or replace function freshet.make_capture(source integer)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_source    freshet.source;
    v_table     text;
    v_owner     oid;
    v_changes   text;
    v_segment   text;
    v_own       pg_catalog.regclass;
    v_column    record;
    v_names     text := '';   -- k1, k2
    v_after     text := '';   -- freshet_new."id", freshet_new."tenant id"
    v_before    text := '';
    v_after_text   text := '';   -- the same, as text: its bytes, whatever the collation takes for equal
    v_before_text  text := '';
    v_new       text := '';   -- new."id", new."tenant id"
    v_old       text := '';
    v_exact     boolean := true;
    v_differs   text := '';   -- the old tuple and the new one render differently
    v_rows      boolean;
    v_same      text := '';   -- what stays the same while the statements below stay right
    v_both      text;
    v_insert    text;
    v_trigger   record;
    v_leaf      oid;
begin
    select * into strict v_source from freshet.source s where s.id = make_capture.source;
    v_table := v_source.relid::pg_catalog.regclass::text;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    perform freshet.admit_owner(v_owner);
    v_changes := pg_catalog.format('freshet.%I', 'changes_' || source);
    v_segment := pg_catalog.format('freshet.%I', 'changes_' || source || '_' || v_source.segment);

    if pg_catalog.to_regclass(v_changes) is null then
        execute pg_catalog.format('create sequence freshet.%I cache 100', 'changes_' || source || '_id');
        execute pg_catalog.format(
            'create table %s ('
            'id bigint not null default pg_catalog.nextval(%L), '
            'xid xid8 not null default pg_catalog.pg_current_xact_id(), '
            'at timestamptz not null default pg_catalog.now(), '
            'op "char" not null)',
            v_changes, pg_catalog.format('freshet.%I', 'changes_' || source || '_id'));
        execute pg_catalog.format('alter sequence freshet.%I owned by %s.id', 'changes_' || source || '_id', v_changes);
        -- Nothing is ever in the parent itself; without an index it would still be scanned.
        execute pg_catalog.format('create index on %s (xid, id)', v_changes);
        execute pg_catalog.format('revoke all on %s from public', v_changes);
    end if;

    for v_column in
        select 'k' || a.attnum as name,
               pg_catalog.quote_ident(a.attname) as source_name,
               freshet.is_exact(v_source.relid, a.attnum) as exact,
               freshet.change_type(a.atttypid)
               || case when a.attcollation = 0 then ''
                  else (select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)
                        from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                        where c.oid = a.attcollation) end as type
        from pg_catalog.unnest(v_source.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = v_source.relid and a.attnum = k.attnum
        order by a.attnum
    loop
        execute pg_catalog.format('alter table %s add column if not exists %I %s', v_changes, v_column.name, v_column.type);
        v_names := v_names || ', ' || v_column.name;
        v_after := v_after || ', freshet_new.' || v_column.source_name;
        v_before := v_before || ', freshet_old.' || v_column.source_name;
        v_after_text := v_after_text || pg_catalog.format(', freshet_new.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_before_text := v_before_text || pg_catalog.format(', freshet_old.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_new := v_new || ', new.' || v_column.source_name;
        v_old := v_old || ', old.' || v_column.source_name;
        v_exact := v_exact and v_column.exact;
        v_differs := v_differs || pg_catalog.format(
            case when v_column.exact then ' or old.%1$s is distinct from new.%1$s'
                else ' or pg_catalog.record_image_ne(row(old.%1$s), row(new.%1$s))' end, v_column.source_name);
        v_same := v_same || pg_catalog.format(' || pg_catalog.pg_describe_object(1259, %s, %s)',
            v_source.relid, pg_catalog.substr(v_column.name, 2));
    end loop;
    v_names := pg_catalog.substr(v_names, 3);
    v_after := pg_catalog.substr(v_after, 3);
    v_before := pg_catalog.substr(v_before, 3);

    if pg_catalog.to_regclass(v_segment) is null then
        execute pg_catalog.format('create table %s () inherits (%s)', v_segment, v_changes);
        execute pg_catalog.format('create index on %s (xid, id)', v_segment);
        execute pg_catalog.format('revoke all on %s from public', v_segment);
    end if;
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

    -- An update touches the new tuples, and the old ones too where they render
    -- differently. UNION and not an anti-join: a plan made for one row is kept for
    -- the statement that updates a million, and must not turn quadratic there. Columns
    -- that are equal in SQL and differ as text are told apart by their text.
    if v_exact then
        v_both := pg_catalog.format('select %s from freshet_new union select %s from freshet_old', v_after, v_before);
    else
        v_both := pg_catalog.format(
            'select %1$s from (select %2$s, %3$s from freshet_new union select %4$s, %5$s from freshet_old) as both_rows (%1$s, %6$s)',
            v_names, v_after, pg_catalog.substr(v_after_text, 3), v_before, pg_catalog.substr(v_before_text, 3),
            pg_catalog.replace(v_names, 'k', 'r'));
    end if;

    v_rows := (select c.relkind = 'p' from pg_catalog.pg_class c where c.oid = v_source.relid)
        or exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = v_source.relid);
    if v_rows then
        v_insert := pg_catalog.format($sql$
        if tg_op = 'UPDATE' then
            insert into %1$s (op, %2$s) values ('u', %3$s);
            if %5$s then
                insert into %1$s (op, %2$s) values ('u', %4$s);
            end if;
        elsif tg_op = 'INSERT' then
            insert into %1$s (op, %2$s) values ('i', %3$s);
        elsif tg_op = 'DELETE' then
            insert into %1$s (op, %2$s) values ('d', %4$s);
        else
            insert into %1$s (op) values ('t');
        end if;
$sql$, v_segment, v_names,
            pg_catalog.substr(v_new, 3), pg_catalog.substr(v_old, 3), pg_catalog.substr(v_differs, 5));
    else
        v_insert := pg_catalog.format($sql$
        if tg_op = 'UPDATE' then
            insert into %1$s (op, %2$s) select 'u', both_tuples.* from (%4$s) as both_tuples;
        elsif tg_op = 'INSERT' then
            insert into %1$s (op, %2$s) select 'i', %3$s from freshet_new;
        elsif tg_op = 'DELETE' then
            insert into %1$s (op, %2$s) select 'd', %5$s from freshet_old;
        else
            insert into %1$s (op) values ('t');
        end if;
$sql$, v_segment, v_names, v_after, v_both, v_before);
    end if;

    -- The first call of a transaction runs under an exception block, so that
    -- whatever is wrong with the change table becomes a gap and not the
    -- application's error. The locks it took keep others from changing that until the
    -- transaction ends, so later calls go without: a subtransaction in each of them
    -- would slow down every other session of the server. What the transaction itself
    -- may change (the names of the key columns, and their types, which rewrites the
    -- table) is compared with how it was in the first call, for each leaf by itself.
    --
    -- A sleeping worker holds the advisory lock. Failing to share it means that
    -- somebody sleeps and wants the bell; holding it keeps them from falling asleep
    -- before this transaction has ended. With the notification queue half full the
    -- bell stays silent: a full one would fail the commit.
    --
    -- Whoever may use the schema can make a trigger of this function on a table of his
    -- own, with columns of types of his own, whose casts would run with the rights of the
    -- source's owner: nothing of a row is looked at before it is known to be the source's.
    execute pg_catalog.format(
        'create or replace function freshet.%I() returns trigger language plpgsql security definer set search_path = '''' as %L',
        'capture_' || source,
        pg_catalog.format($sql$
declare
    v_same text := coalesce(pg_catalog.pg_relation_filenode(tg_relid), 0)::text%3$s;
begin
    if tg_op <> 'TRUNCATE' and tg_relid <> %4$s and (
        pg_catalog.pg_partition_root(tg_relid) is null
        or pg_catalog.pg_partition_root(tg_relid) is distinct from pg_catalog.pg_partition_root(%4$s))
    then
        perform freshet.record_gap(%1$s, tg_op, '42809',
            pg_catalog.format('the trigger is on %%I.%%I, which is not the source', tg_table_schema, tg_table_name));
        return null;
    end if;
    if pg_catalog.current_setting('freshet.guarded_%1$s_' || tg_relid, true) = v_same then
%2$s
    else
        begin
%2$s
            if found then
                if not pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, %1$s)
                    and pg_catalog.current_setting('max_prepared_transactions') = '0'
                    and pg_catalog.pg_notification_queue_usage() < 0.5
                then
                    perform pg_catalog.pg_notify('freshet_bell', '%1$s');
                end if;
                perform pg_catalog.set_config('freshet.guarded_%1$s_' || tg_relid, coalesce(v_same, ''), true);
            end if;
        exception when others then
            perform freshet.record_gap(%1$s, tg_op, sqlstate, sqlerrm);
        end;
    end if;
    return null;
end
$sql$, source, v_insert, v_same, v_source.relid));

    if not exists (
        select from pg_catalog.pg_proc p
        where p.oid = pg_catalog.format('freshet.%I()', 'capture_' || source)::pg_catalog.regprocedure and p.proowner = v_owner)
    then
        execute pg_catalog.format('alter function freshet.%I() owner to %I', 'capture_' || source, pg_catalog.pg_get_userbyid(v_owner));
    end if;

    for v_trigger in
        select t.name, t.event, t.level, t.tables from (values
            ('freshet_insert', 'insert', 'statement', 'referencing new table as freshet_new', false),
            ('freshet_update', 'update', 'statement', 'referencing old table as freshet_old new table as freshet_new', false),
            ('freshet_delete', 'delete', 'statement', 'referencing old table as freshet_old', false),
            ('freshet_row', 'insert or update or delete', 'row', '', true),
            ('freshet_truncate', 'truncate', 'statement', '', null)
        ) as t (name, event, level, tables, rows)
        where t.rows is null or t.rows = v_rows
    loop
        if not exists (
            select from pg_catalog.pg_trigger t
            where t.tgrelid = v_source.relid and t.tgname = v_trigger.name)
        then
            execute pg_catalog.format(
                'create trigger %I after %s on %s %s for each %s execute function freshet.%I()',
                v_trigger.name, v_trigger.event, v_table, v_trigger.tables, v_trigger.level, 'capture_' || source);
        end if;
        -- Also for sessions that load data with session_replication_role = replica.
        execute pg_catalog.format('alter table %s enable always trigger %I', v_table, v_trigger.name);
    end loop;

    -- A leaf that is truncated by itself fires no trigger of its parents.
    for v_leaf in
        select p.relid from pg_catalog.pg_partition_tree(v_source.relid) p where p.relid <> v_source.relid
    loop
        if not exists (
            select from pg_catalog.pg_trigger t where t.tgrelid = v_leaf and t.tgname = 'freshet_truncate')
        then
            execute pg_catalog.format(
                'create trigger freshet_truncate after truncate on %s for each statement execute function freshet.%I()',
                v_leaf::pg_catalog.regclass, 'capture_' || source);
        end if;
        execute pg_catalog.format('alter table %s enable always trigger freshet_truncate', v_leaf::pg_catalog.regclass);
    end loop;
end
$$;

revoke all on function freshet.make_capture(integer) from public;
