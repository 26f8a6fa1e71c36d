-- Makes what is missing of a source's triggers, enables them, and drops those of the other
-- level and of other names, which capture nothing.
create or replace function freshet.make_triggers(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid     oid;
    v_table     text;
    v_rows      boolean;
    v_function  oid := pg_catalog.format('freshet.%I()', 'capture_' || source)::pg_catalog.regprocedure;
    v_trigger   record;
    v_leaf      oid;
    v_timeout   text := pg_catalog.current_setting('lock_timeout');
begin
    select s.relid, s.relid::pg_catalog.regclass::text into strict v_relid, v_table
    from freshet.source s where s.id = make_triggers.source;
    v_rows := freshet.needs_row_triggers(v_relid);

    for v_trigger in
        select t.tgname as name
        from pg_catalog.pg_trigger t
        where t.tgrelid = v_relid and t.tgfoid = v_function
          and t.tgname <> all (case when v_rows then array['freshet_row_' || source, 'freshet_truncate']
              else array['freshet_insert', 'freshet_update', 'freshet_delete', 'freshet_truncate'] end)
    loop
        execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_table);
    end loop;

    for v_trigger in
        select t.name, t.event, t.level, t.tables from (values
            ('freshet_insert', 'insert', 'statement', 'referencing new table as freshet_new', false),
            ('freshet_update', 'update', 'statement', 'referencing old table as freshet_old new table as freshet_new', false),
            ('freshet_delete', 'delete', 'statement', 'referencing old table as freshet_old', false),
            -- Partitions have it under the same name, and may have been a source by themselves.
            ('freshet_row_' || source, 'insert or update or delete', 'row', '', true),
            ('freshet_truncate', 'truncate', 'statement', '', null)
        ) as t (name, event, level, tables, rows)
        where t.rows is null or t.rows = v_rows
    loop
        -- One of that name that runs something else is not ours any more.
        if exists (
            select from pg_catalog.pg_trigger t
            where t.tgrelid = v_relid and t.tgname = v_trigger.name and t.tgfoid <> v_function)
        then
            execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_table);
        end if;
        if not exists (
            select from pg_catalog.pg_trigger t
            where t.tgrelid = v_relid and t.tgname = v_trigger.name)
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
        select p.relid from freshet.partitions_of(v_relid) p
        join pg_catalog.pg_class c on c.oid = p.relid
        -- Foreign ones are refused by freshet.check_kind, and some versions know no such triggers on them.
        where c.relkind <> 'f'
    loop
        if not exists (
            select from pg_catalog.pg_trigger t where t.tgrelid = v_leaf and t.tgname = 'freshet_truncate')
        then
            execute pg_catalog.format(
                'create trigger freshet_truncate after truncate on %s for each statement execute function freshet.%I()',
                v_leaf::pg_catalog.regclass, 'capture_' || source);
        end if;
        -- The leaf's copies of the parent's triggers too.
        for v_trigger in
            select t.tgname as name from pg_catalog.pg_trigger t
            where t.tgrelid = v_leaf and t.tgfoid = v_function and t.tgenabled <> 'A'
        loop
            execute pg_catalog.format('alter table %s enable always trigger %I', v_leaf::pg_catalog.regclass, v_trigger.name);
        end loop;
    end loop;

    -- A leaf that was detached, or a table that this source no longer is.
    for v_trigger in
        select t.tgname as name, t.tgrelid::pg_catalog.regclass as relation
        from pg_catalog.pg_trigger t
        where t.tgfoid = v_function and t.tgparentid = 0
          and t.tgrelid not in (select p.relid from freshet.partitions_of(v_relid) p) and t.tgrelid <> v_relid
    loop
        -- Not waited for: it captures nothing there, and may be dropped another time.
        begin
            perform pg_catalog.set_config('lock_timeout', '50ms', true);
            execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_trigger.relation);
        exception when lock_not_available then
            null;
        end;
        perform pg_catalog.set_config('lock_timeout', v_timeout, true);
    end loop;
end
$$;

revoke all on function freshet.make_triggers(integer) from public;
