-- Writes a source's trigger function anew, for its present key columns and segment. No
-- lock is needed: a transaction that is open goes on with the new one.
--
-- Statement-level triggers keep bulk writes near their old speed. Row-level ones are
-- for partitioned tables, where the parent's are inherited by every leaf and see the
-- writes sent straight to it, and for tables that a subscription writes to, whose
-- apply worker fires no others.
create or replace function freshet.make_capture_function(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source    freshet.source;
    v_owner     oid;
    v_segment   text;
    v_column    record;
    v_names     text := '';   -- k1, k2
    v_after     text := '';   -- freshet_new."id", freshet_new."tenant id"
    v_before    text := '';
    v_lists     text := '';   -- pg_catalog.array_agg(freshet_new."id"), …
    v_change    text[] := '{}';   -- of the key columns: the names in the change table
    v_sources   text[] := '{}';   -- in the source
    v_kinds     text[] := '{}';   -- the types in the change table
    v_lengths   integer[] := '{}';   -- how long values are; null if they have no one length, or may be null
    v_listed    boolean := true;   -- many tuples may share a row of the change table
    v_after_text   text := '';   -- the same, as text: its bytes, whatever the collation takes for equal
    v_before_text  text := '';
    v_new       text := '';   -- new."id", new."tenant id"
    v_old       text := '';
    v_exact     boolean := true;
    v_differs   text := '';   -- the old tuple and the new one render differently
    v_same      text := '';   -- what stays the same while the statements below stay right
    v_types     text := '';   -- the key columns as this function is made for them
    v_leaves    text := '';
    v_first     text := '';   -- a limit to the rows that have one tuple each
    v_packed    text[] := '{"", "", "", ""}';   -- and what writes the others, by an insert, an update (new and old tuples) and a delete
    v_update    text;
    v_olds      text := '';   -- o1, o2: where the change table has an old tuple beside the new one
    v_differ    text;         -- the tuples of a statement that updates one row do
    v_single    text := '';   -- what captures a statement that updates one row
    v_inserted  text;         -- what captures one that inserts
    v_deleted   text;
    v_captured  text := $sql$
            insert into %1$s (op, %2$s) select '%6$s', %3$s from freshet_%7$s%4$s;
            get diagnostics v_rows = row_count;%5$s$sql$;
    v_first_moments  text := '';
    v_failed    text;         -- what follows when anything was wrong
    v_by_row    boolean;       -- its triggers are row-level ones
    v_unique    boolean;       -- no two rows have the same tuple
    v_insert    text;
    v_widest    bigint := 60;  -- of a row of the change table, in bytes
    v_room      bigint;        -- so many rows are less than where capture stops
begin
    select * into strict v_source from freshet.source s where s.id = make_capture_function.source;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    v_segment := pg_catalog.format('freshet.%I', 'changes_' || source || '_' || v_source.segment);
    v_by_row := freshet.needs_row_triggers(v_source.relid);

    for v_column in
        select 'k' || a.attnum as name,
               pg_catalog.quote_ident(a.attname) as source_name,
               freshet.is_exact(v_source.relid, a.attnum) as exact,
               freshet.change_type(a.atttypid) as type, freshet.list_type(a.atttypid) is not null as listed,
               a.attlen as length, a.attnotnull, a.attname, a.atttypid
        from pg_catalog.unnest(v_source.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = v_source.relid and a.attnum = k.attnum
        order by a.attnum
    loop
        v_names := v_names || ', ' || v_column.name;
        v_olds := v_olds || ', o' || pg_catalog.substr(v_column.name, 2);
        v_after := v_after || ', freshet_new.' || v_column.source_name;
        v_before := v_before || ', freshet_old.' || v_column.source_name;
        v_lists := v_lists || pg_catalog.format(', pg_catalog.array_agg(freshet_new.%s)', v_column.source_name);
        v_after_text := v_after_text || pg_catalog.format(', freshet_new.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_before_text := v_before_text || pg_catalog.format(', freshet_old.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_new := v_new || ', new.' || v_column.source_name;
        v_old := v_old || ', old.' || v_column.source_name;
        v_exact := v_exact and v_column.exact;
        v_change := v_change || v_column.name;
        v_sources := v_sources || v_column.source_name;
        v_kinds := v_kinds || v_column.type;
        v_lengths := v_lengths || case when v_column.length > 0 and v_column.attnotnull then greatest(v_column.length, 8) end;
        v_listed := v_listed and v_column.listed;
        v_widest := v_widest + case when v_column.length > 0 then v_column.length + 8 else 8192 end;
        v_differs := v_differs || pg_catalog.format(
            case when v_column.exact then ' or old.%1$s is distinct from new.%1$s'
                else ' or pg_catalog.record_image_ne(row(old.%1$s), row(new.%1$s))' end, v_column.source_name);
        v_same := v_same || pg_catalog.format(' || pg_catalog.pg_describe_object(1259, %s, %s)',
            v_source.relid, pg_catalog.substr(v_column.name, 2));
        v_types := v_types || pg_catalog.format(' or a.attname = %L and a.atttypid = %s', v_column.attname, v_column.atttypid);
    end loop;
    if v_listed and v_names <> '' and not v_by_row then
        v_widest := v_widest + 1800;
        v_first := ' limit 17';
        select pg_catalog.array_agg(pg_catalog.format($sql$
            if v_rows = 17 then%s
            end if;$sql$, freshet.pack_rows(v_segment, p.op, p.relation, v_change, v_sources, v_kinds, v_lengths, p.others)) order by p.n)
        into v_packed
        from (values (1, 'i', 'freshet_new', null), (2, 'u', 'freshet_new', 'freshet_old'), (3, 'u', 'freshet_old', null), (4, 'd', 'freshet_old', null))
            as p (n, op, relation, others);
    end if;
    select (i.stop_bytes - pg_catalog.pg_relation_size(v_segment::pg_catalog.regclass)) / v_widest
        + coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.format('freshet.%I', 'changes_' || source || '_id')::pg_catalog.regclass), 0)
    into v_room
    from freshet.installation i;
    v_names := pg_catalog.substr(v_names, 3);
    v_after := pg_catalog.substr(v_after, 3);
    v_before := pg_catalog.substr(v_before, 3);
    v_olds := pg_catalog.substr(v_olds, 3);

    -- An update touches the new tuples, and the old ones too where they render
    -- differently. UNION and EXCEPT and not an anti-join: a plan made for one row is kept
    -- for the statement that updates a million, and must not turn quadratic there. Where
    -- no tuple can come twice, the new ones are written in the order of the rows, which
    -- mostly is that of their keys, and quicker to look up; and the old ones only if any of many
    -- has changed. Both transition tables have the rows in one order, so that this is told by
    -- comparing lists, in an eighth of the time, where these cannot get too large. Columns that are equal in
    -- SQL and differ as text are told apart by their text.
    --
    -- Most statements update one row. One insert has both of its tuples then, the old one beside the
    -- new one, and asks for them in a way that fails where there are more rows.
    v_unique := exists (
        select from pg_catalog.pg_index i
        where i.indrelid = v_source.relid and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
          and (i.indkey::smallint[])[0 : i.indnkeyatts - 1] <@ v_source.key_attnums);
    if v_names = '' or v_by_row then
        null; -- such triggers see one row anyway
    elsif v_exact and pg_catalog.cardinality(v_change) = 1 then
        v_differ := pg_catalog.format('(select %s from freshet_new) is distinct from (select %s from freshet_old)', v_after, v_before);
        v_single := pg_catalog.format($sql$
                    insert into %1$s (op, %2$s, %3$s)
                    select 'u', %4$s, nullif((select %5$s from freshet_old), %4$s) from freshet_new;$sql$,
            v_segment, v_names, v_olds, v_after, v_before);
    else
        v_differ := pg_catalog.format('pg_catalog.record_image_ne((select row(%s) from freshet_new), (select row(%s) from freshet_old))', v_after, v_before);
        v_single := pg_catalog.format($sql$
                    insert into %1$s (op, %2$s, %3$s)
                    select (select 'u'::pg_catalog."char" from freshet_old), %4$s, %5$s
                    from freshet_new left join freshet_old on pg_catalog.record_image_ne(row(%5$s), row(%4$s));$sql$,
            v_segment, v_names, v_olds, v_after, v_before);
    end if;
    if v_names = '' then
        v_update := '';
    elsif v_unique then
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s) select 'u', %3$s from freshet_new%5$s;
            get diagnostics v_rows = row_count;
            if v_rows = 1 then
                if %11$s then
                    insert into %1$s (op, %2$s) select 'u', %4$s from freshet_old;
                end if;
            else%6$s%8$s
                    v_moved := exists (select %9$s from freshet_old except select %10$s from freshet_new);
                end if;
                if v_moved then
                    insert into %1$s (op, %2$s) select 'u', %4$s from freshet_old%5$s;%7$s
                end if;
            end if;$sql$, v_segment, v_names, v_after, v_before, v_first, v_packed[2], v_packed[3],
            case when v_first = '' or pg_catalog.array_position(v_lengths, null) is not null then $sql$
                if v_rows > 1 then$sql$
                else pg_catalog.format($sql$
                if v_rows < 17 or not v_moved then
                    v_moved := pg_catalog.record_image_ne(
                        (select row(%1$s) from (select %2$s from freshet_new%4$s) as freshet_new), (select row(%1$s) from (select %3$s from freshet_old%4$s) as freshet_new));
                elsif v_moved is null then$sql$, pg_catalog.substr(v_lists, 3), v_after, v_before, v_first) end,
            -- By value too: the session may print different ones alike.
            v_before || case when v_exact then '' else v_before_text end,
            v_after || case when v_exact then '' else v_after_text end,
            v_differ);
    elsif v_exact then
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s) select 'u', both_tuples.* from (select %3$s from freshet_new union select %4$s from freshet_old) as both_tuples;
            get diagnostics v_rows = row_count;$sql$, v_segment, v_names, v_after, v_before);
    else
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s)
            select 'u', %2$s from (select %3$s, %4$s from freshet_new union select %5$s, %6$s from freshet_old) as both_rows (%2$s, %7$s);
            get diagnostics v_rows = row_count;$sql$, v_segment, v_names, v_after, pg_catalog.substr(v_after_text, 3),
            v_before, pg_catalog.substr(v_before_text, 3), pg_catalog.replace(v_names, 'k', 'r'));
    end if;

    if v_names = '' then
        -- Every key column was dropped, and every sink is stopped.
        v_insert := '        v_rows := 0;';
    elsif v_by_row then
        v_insert := pg_catalog.format($sql$
        v_rows := 1;
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
        v_inserted := pg_catalog.format(v_captured, v_segment, v_names, v_after, v_first, v_packed[1], 'i', 'new');
        v_deleted := pg_catalog.format(v_captured, v_segment, v_names, v_before, v_first, v_packed[4], 'd', 'old');
        v_insert := pg_catalog.format($sql$
        if tg_name = 'freshet_update' then%2$s
        elsif tg_name = 'freshet_insert' then%3$s
        elsif tg_name = 'freshet_delete' then%4$s
        elsif tg_name = 'freshet_truncate' then
            insert into %1$s (op) values ('t');
            v_rows := 1;
        else
            v_rows := 0;
        end if;
$sql$, v_segment, v_update, v_inserted, v_deleted);
    end if;

    -- The first call of a transaction runs under an exception block, so that
    -- whatever is wrong with the change table becomes a gap and not the
    -- application's error. The locks it took keep others from changing that until the
    -- transaction ends, so later calls go without: a subtransaction in each of them
    -- would slow down every other session of the server. What the transaction itself
    -- may change (the names of the key columns, and their types, which rewrites the
    -- table), and the segment, which may have been rotated since, are compared with how
    -- they were in the first call. Nothing goes without a block while the right to use the
    -- schema is missing: it may be revoked meanwhile.
    --
    -- Of a partitioned table this is remembered for each leaf. But only the first leaf has
    -- its call under a block: a load of a hundred partitions would have a hundred
    -- subtransactions. The others rely on the locks of that one, without which nobody can
    -- alter a column of the whole table, and have no columns of their own to differ in.
    -- Their types are looked up once for each leaf all the same, for what this session has
    -- planned for a leaf before they were altered would fail.
    --
    -- Once a gap is on record, the rest of the transaction adds nothing to it: everything is
    -- warmed again. So it is not tried row by row, in a subtransaction each, to capture what
    -- cannot be. The mark that says so is made with the gap and rolled back with it.
    --
    -- To remember a call costs about as much as one under an exception block, and most
    -- transactions have only one. So in the first half millisecond of a transaction none is
    -- remembered, and each has its block: there is no time for many of them. See
    -- freshet.first_moments.
    --
    -- A sleeping worker holds the advisory lock. Failing to share it means that
    -- somebody sleeps and wants the bell; holding it keeps them from falling asleep
    -- before this transaction has ended. With the notification queue half full the
    -- bell stays silent: a full one would fail the commit.
    --
    -- Whoever may use the schema can make a trigger of this function on a table of his
    -- own, with columns of types of his own, whose casts would run with the rights of the
    -- source's owner: nothing of a row is looked at before it is known to be the source's. Nor is
    -- anything looked at in triggers of other names than ours, where freshet_new and freshet_old
    -- may be temporary tables of the session's. One of ours that was renamed is noticed as missing.
    --
    -- pg_temp comes last, for types are looked for there first if nothing else is said, and
    -- the check of a domain called text would run with those rights too. And what fails here is
    -- no reason to end the session, whatever that says of errors.
    if exists (select from pg_catalog.pg_class c where c.oid = v_source.relid and c.relkind = 'p') then
        v_leaves := pg_catalog.format($sql$
        if not v_guarded and pg_catalog.current_setting('freshet.guarded_%1$s', true) = v_columns
            and (select count(*) from pg_catalog.pg_attribute a
                 where a.attrelid = tg_relid and not a.attisdropped and (%2$s)) = %3$s
        then
            perform pg_catalog.set_config('freshet.guarded_%1$s_' || tg_relid, v_same, true);
            v_guarded := true;
        end if;
$sql$, source, pg_catalog.substr(v_types, 5), pg_catalog.cardinality(v_source.key_attnums));
    end if;
    -- The owner may not even use the schema any more, and the disk may be full. A sequence needs no room for a row, and by
    -- its number no right on the schema. What the owner may not do he may not do for the next row either.
    -- Only what is to be tried again passes: that transaction cannot commit, and the sequence is not rolled back with it.
    v_failed := pg_catalog.format($sql$
    when serialization_failure then
        raise;
    when others then
        begin
            perform freshet.record_gap(%1$s, tg_op, sqlstate, sqlerrm);
        exception when serialization_failure then
            raise;
        when others then
            begin
                perform pg_catalog.nextval(%2$s::oid);
            exception when others then
                null;
            end;
            raise warning 'freshet: a change of source %1$s was not captured and could not be recorded as a gap either: %%', sqlerrm;
            if sqlstate in ('42501', '3F000', '42883', '54000') then
                perform pg_catalog.set_config('freshet.missed_%1$s', pg_catalog.pg_current_xact_id()::text, true);
            end if;
        end;$sql$, source, ('freshet.changes_' || source || '_unrecorded')::pg_catalog.regclass::oid);
    if v_single <> '' then
        v_first_moments := freshet.first_moments(source, v_source.relid, v_segment, v_room,
            (select i.stop_bytes from freshet.installation i), v_single, v_inserted, v_deleted, v_failed);
    end if;
    execute pg_catalog.format(
        'create or replace function freshet.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp set exit_on_error = off as %L',
        'capture_' || source,
        pg_catalog.format($sql$
declare
    v_young    boolean;
    v_columns  text;
    v_same     text;
    v_guarded  boolean;
    v_rows     bigint;
    v_packed   bigint;
    v_moved    boolean;
begin%12$s
    v_young := pg_catalog.clock_timestamp() < current_timestamp + interval '0.5 milliseconds';
    if tg_relid <> %7$s then
        if tg_op <> 'TRUNCATE' and (
            pg_catalog.pg_partition_root(tg_relid) is null
            or pg_catalog.pg_partition_root(tg_relid) is distinct from pg_catalog.pg_partition_root(%7$s))
        then
            if pg_catalog.current_setting('freshet.missed_%1$s', true) = pg_catalog.pg_current_xact_id_if_assigned()::text then
                return null;
            end if;
            begin
                raise exception using errcode = 'wrong_object_type',
                    message = pg_catalog.format('the trigger is on %%I.%%I, which is not the source', tg_table_schema, tg_table_name);
            exception%13$s
            end;
            return null;
        end if;
    end if;
    if not v_young then
        v_columns := case when pg_catalog.has_schema_privilege(%9$s::oid, 'usage') and pg_catalog.has_table_privilege(%14$s::oid, 'insert')
            and pg_catalog.has_sequence_privilege(%15$s::oid, 'usage') then '%4$s'%3$s end;
        v_same := v_columns || ' ' || coalesce(pg_catalog.pg_relation_filenode(tg_relid), 0)::text;
        v_guarded := coalesce(pg_catalog.current_setting('freshet.guarded_%1$s_' || tg_relid, true) = v_same, false);%10$s
        if v_guarded then
%2$s
            return null;
        end if;
        if pg_catalog.current_setting('freshet.missed_%1$s', true) = pg_catalog.pg_current_xact_id_if_assigned()::text then
            return null;
        end if;
    end if;
    begin
        -- With no worker to empty it, it must not fill the disk either. The numbers of its
        -- rows say, at a tenth of the cost, that it cannot be that large yet.
        if pg_catalog.pg_sequence_last_value('freshet.changes_%1$s_id') > %8$s then
            if pg_catalog.pg_relation_size('%5$s') > %6$s then
                perform freshet.record_gap(%1$s, tg_op, 'lapsed', 'the change table is full, for no worker runs');
                return null;
            end if;
        end if;
%2$s
        if v_rows > 0 and not pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, %1$s) then
            if pg_catalog.current_setting('max_prepared_transactions') = '0' and pg_catalog.pg_notification_queue_usage() < 0.5 then
                perform pg_catalog.pg_notify('freshet_bell', '%1$s');
            end if;
        end if;
        if not v_young and v_rows > 0 then
            perform pg_catalog.set_config('freshet.guarded_%1$s_' || tg_relid, coalesce(v_same, ''), true)%11$s;
        end if;
    exception%13$s
    end;
    return null;
end
$sql$, source, v_insert, v_same, v_source.segment, v_segment,
        (select i.stop_bytes from freshet.installation i), v_source.relid, v_room,
        'freshet'::pg_catalog.regnamespace::oid, v_leaves,
        case when v_leaves <> '' then pg_catalog.format(', pg_catalog.set_config(%L, coalesce(v_columns, %L), true)', 'freshet.guarded_' || source, '') end,
        v_first_moments, v_failed,
        v_segment::pg_catalog.regclass::oid, ('freshet.changes_' || source || '_id')::pg_catalog.regclass::oid));

    if not exists (
        select from pg_catalog.pg_proc p
        where p.oid = pg_catalog.format('freshet.%I()', 'capture_' || source)::pg_catalog.regprocedure and p.proowner = v_owner)
    then
        execute pg_catalog.format('alter function freshet.%I() owner to %I', 'capture_' || source, pg_catalog.pg_get_userbyid(v_owner));
    end if;

end
$$;

revoke all on function freshet.make_capture_function(integer) from public;
