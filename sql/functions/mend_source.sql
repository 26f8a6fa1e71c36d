-- What freshet.mend does, unless something is locked.
create or replace function freshet.mend_source(source integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source     freshet.source;
    v_was        jsonb;
    v_now        jsonb;      -- as it was found
    v_next       jsonb;      -- as it is once the keeper is done
    v_quiet      constant text[] := '{versions,trifles,stored,files,types,calls}';   -- change often, and mostly for nothing
    v_gaps       tid[];      -- those that this looks after
    v_lapsed     boolean;    -- all gaps are of a change table that was full
    v_noted      boolean;    -- a partition was come upon that is gone
    v_lent       boolean;    -- a column was something else in between
    v_rewritten  boolean;    -- columns were given values by a statement that fires no trigger
    v_reworded   boolean;    -- values of an enum, or attributes of a type, were renamed
    v_recalled   boolean;    -- a function of a sink's was replaced
    v_why        text[] := '{}';
    v_task       text;       -- for the keeper
    v_missed     boolean := false;   -- changes may have been missed: look at everything
    v_gone       boolean := false;   -- rows may be gone without a trigger
    v_large      boolean := false;   -- a new partition has too many rows to be looked at here
    v_leaf       text;
    v_error      text;
begin
    -- The second is freshet.lock_definitions: whoever creates or drops a sink comes first.
    if not pg_catalog.pg_try_advisory_xact_lock(1181905014, source)
        or not pg_catalog.pg_try_advisory_xact_lock(1181905013)
    then
        perform freshet.note_barred(source);
        return null;
    end if;
    select * into v_source from freshet.source s where s.id = mend_source.source and s.relid is not null for update;
    if not found or not freshet.needs_mending(source) then
        return null;
    end if;
    -- Before the table is: nobody who has a sink makes the table's writers wait.
    perform from freshet.sink s where s.source_id = v_source.id order by s.id for update;
    v_was := coalesce(v_source.fingerprint, '{}');
    v_now := freshet.fingerprint(source);
    if v_source.fingerprint is null then
        update freshet.source s set fingerprint = v_now, mend_error = null where s.id = v_source.id;
        return null;
    end if;
    select pg_catalog.array_agg(g.ctid), pg_catalog.bool_and(g.code = 'lapsed') into v_gaps, v_lapsed
    from freshet.capture_gap g where g.source_id = mend_source.source;
    v_noted := exists (
        select from freshet.settled_notes(mend_source.source) n
        where not (n.stays and v_now -> 'leaves' ? n.relid::text));

    if v_now -> 'relation' = 'null' and v_now -> 'named' = 'null' then
        -- Its rows are gone, and so have to be the entries: the lanes see to that.
        update freshet.sink s
        set broken = pg_catalog.format('the table %s.%s is gone', v_source.schema_name, v_source.table_name), survey_after = null,
            definition = s.definition + 1, revision = s.revision + 1
        where s.source_id = v_source.id and s.state <> 'dropping' and freshet.is_altered(v_source.id);
        update freshet.source s
        set fingerprint = v_now || pg_catalog.jsonb_build_object('known', coalesce(v_was -> 'known', v_was -> 'columns')),
            mend_error = null, mend_after = null, mend_tries = 0
        where s.id = v_source.id;
        delete from freshet.noted_partition n where n.source_id = v_source.id;
        delete from freshet.capture_gap g where g.source_id = v_source.id and g.ctid = any (v_gaps);
        return 'the table is gone';
    end if;

    -- Many things alter the catalog and no entry, such as VACUUM FULL, or one more value of an enum.
    v_rewritten := v_now -> 'files' is distinct from v_was -> 'files' and freshet.differs(v_was -> 'versions', v_now -> 'versions');
    v_reworded := freshet.differs(v_was -> 'types', v_now -> 'types');
    v_recalled := freshet.differs(v_was -> 'calls', v_now -> 'calls');
    -- There and back: a column is what it was, and was something else in between. It had another name or type, or its table
    -- was a partition or a child of another, whose triggers are not ours.
    v_lent := exists (
        select from pg_catalog.jsonb_each(v_was -> 'versions') w join pg_catalog.jsonb_each(v_now -> 'versions') n on n.key = w.key
        where n.value <> w.value and v_now -> 'columns' -> w.key = v_was -> 'columns' -> w.key and v_now -> 'trifles' -> w.key = v_was -> 'trifles' -> w.key
          -- Another type and back leaves what the type brings.
          and (not v_now -> 'stored' ? w.key or v_now -> 'stored' -> w.key = v_was -> 'stored' -> w.key));
    if v_gaps is null and not v_noted and not v_lent and not v_rewritten and not v_reworded and not v_recalled and v_source.mend_error is null
        and v_was - v_quiet = v_now - v_quiet
    then
        update freshet.source s set fingerprint = v_was || v_now where s.id = v_source.id;
        delete from freshet.noted_partition n using freshet.settled_notes(v_source.id) t
        where n.source_id = v_source.id and n.relid = t.relid and n.attached = t.attached and t.stays and v_now -> 'leaves' ? n.relid::text;
        return freshet.survey_broken(v_source.id);
    end if;

    begin
        if v_now ->> 'named' <> v_source.relid::bigint::text then
            v_why := v_why || 'another table has its name'::text;
            perform freshet.rebase(source, (v_now ->> 'named')::oid, coalesce(v_was -> 'known', v_was -> 'columns'));
            v_task := 'rebuild';
            v_missed := true;
        elsif v_now -> 'named' = 'null' then
            v_why := v_why || 'the table was renamed'::text;
            update freshet.source s
            set schema_name = n.nspname, table_name = c.relname
            from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where s.id = v_source.id and c.oid = s.relid;
            v_now := v_now || pg_catalog.jsonb_build_object('named', v_source.relid::bigint);
        end if;
        if v_gaps is not null then
            v_why := v_why || pg_catalog.format('%s changes were not captured (%s)', pg_catalog.cardinality(v_gaps), (
                -- Of data errors the message can have values of the row in it, and this is for the log.
                select case when g.code ~ '^(22|23|P0)' then 'SQLSTATE ' || g.code else g.message end
                from freshet.capture_gap g where g.source_id = mend_source.source order by g.at desc limit 1));
            v_task := coalesce(v_task, case when v_lapsed then 'capture' else 'renew' end);
            v_missed := true;
        end if;
        if v_now -> 'triggers' is distinct from v_was -> 'triggers' or v_now -> 'function' is distinct from v_was -> 'function'
            or v_now -> 'changes' is distinct from v_was -> 'changes'
        then
            v_why := v_why || 'triggers or change tables are not as they were'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_was ? 'unrecorded' and v_now -> 'unrecorded' <> v_was -> 'unrecorded' then
            v_why := v_why || 'changes were not captured, of which nothing could be recorded'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_now -> 'form' is distinct from v_was -> 'form' then
            v_why := v_why || 'capture is of another version'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_was ? 'owner' and v_now -> 'owner' is distinct from v_was -> 'owner' then
            v_why := v_why || 'the owner, or what he may do, is not as it was'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if freshet.differs(v_was -> 'leaves', v_now -> 'leaves') then
            v_why := v_why || 'a partition was truncated, or its triggers were changed'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_rewritten and exists (
            -- Where its type is another as well, that is seen to below, for the sinks concerned.
            select from pg_catalog.jsonb_each(v_was -> 'versions') w join pg_catalog.jsonb_each(v_now -> 'versions') n on n.key = w.key
            where n.value <> w.value and v_now -> 'columns' -> w.key = v_was -> 'columns' -> w.key)
        then
            v_why := v_why || 'a column was given other values'::text;
            v_missed := true;
        elsif v_lent then
            v_why := v_why || 'a column, or the table, was something else in between'::text;
            v_missed := true;
        end if;
        if v_was ? 'unfit' and v_now -> 'unfit' <> v_was -> 'unfit' then
            v_why := v_why || 'the table is of another kind'::text;
            v_missed := true;
        end if;
        if v_reworded then
            v_why := v_why || 'values of a type read otherwise'::text;
            v_missed := true;
        end if;
        if v_task is null and exists (
            select from pg_catalog.unnest(v_source.key_attnums) as u (attnum)
            where v_now -> 'columns' -> u.attnum::text is distinct from v_was -> 'columns' -> u.attnum::text)
        then
            v_why := v_why || 'a key column was changed'::text;
            v_task := 'capture';
            v_missed := true;
        end if;
        if v_task is not null and v_task <> 'rebuild' then
            -- What is gone is captured no more. Its sinks are stopped below, the others go on.
            update freshet.source s
            set key_attnums = coalesce((
                select pg_catalog.array_agg(u.attnum order by u.attnum) from pg_catalog.unnest(s.key_attnums) as u (attnum)
                where v_now -> 'columns' ? u.attnum::text), '{}')
            where s.id = v_source.id and exists (
                select from pg_catalog.unnest(s.key_attnums) as u (attnum) where not v_now -> 'columns' ? u.attnum::text);
        end if;
        if v_task is null and (v_noted or exists (
            select from pg_catalog.jsonb_object_keys(v_now -> 'leaves') n
            full join pg_catalog.jsonb_object_keys(v_was -> 'leaves') w on w = n
            where n is null or w is null))
        then
            v_task := 'leaves';
        end if;

        if v_task is not null then
            execute pg_catalog.format('select freshet.%I($1, null)', 'keep_' || source) using v_task;
        end if;
    exception when lock_not_available then
        raise;
    when others then
        v_error := coalesce(freshet.owner_advice(source), sqlerrm);
    end;
    if v_error is not null then
        -- What was missed stays on record; it is tried again. An owner may be given back what
        -- he had, and that looks as if nothing had happened.
        update freshet.source s
        set fingerprint = case when v_was ? 'owner' and v_now -> 'owner' is distinct from v_was -> 'owner'
                then s.fingerprint || '{"owner": null}' else s.fingerprint end,
            mend_tries = s.mend_tries + 1, mend_error = v_error,
            mend_after = pg_catalog.clock_timestamp() + least(300, power(2, least(s.mend_tries, 10))) * interval '1 second'
        where s.id = v_source.id;
        return 'could not be mended: ' || v_error;
    end if;

    -- As it is from now on. Under the keeper's lock nothing of this changes any more; but
    -- while it waited for that lock, whoever held it may have done anything. Without a keeper
    -- nothing is locked, and what was found is all there is to go by.
    v_next := v_now;
    if v_task is not null then
        v_next := freshet.fingerprint(source) || pg_catalog.jsonb_build_object('named', v_now -> 'named');
        if v_task <> 'rebuild' then
            -- Seen to by the next look.
            v_next := v_next || pg_catalog.jsonb_build_object(
                'relation', v_now -> 'relation', 'unique', v_now -> 'unique', 'columns', v_now -> 'columns',
                'versions', v_now -> 'versions', 'trifles', v_now -> 'trifles', 'stored', v_now -> 'stored', 'files', v_now -> 'files', 'types', v_now -> 'types',
                'calls', v_now -> 'calls', 'unfit', v_now -> 'unfit');
        end if;
        v_missed := v_missed
            or v_next -> 'triggers' is distinct from v_was -> 'triggers'
            or v_next -> 'function' is distinct from v_was -> 'function'
            or v_next -> 'changes' is distinct from v_was -> 'changes'
            or v_was ? 'unrecorded' and v_next -> 'unrecorded' <> v_was -> 'unrecorded'
            or freshet.differs(v_was -> 'leaves', v_next -> 'leaves')
            or exists (select from freshet.capture_gap g where g.source_id = mend_source.source);
        select pg_catalog.array_agg(g.ctid) into v_gaps from freshet.capture_gap g where g.source_id = mend_source.source;
    end if;
    for v_leaf in
        select k from pg_catalog.jsonb_object_keys(v_next -> 'leaves') k
        where not coalesce(v_was -> 'leaves', '{}') ? k and v_was <> '{}'
    loop
        v_why := v_why || pg_catalog.format('%s is a new partition', v_leaf::oid::pg_catalog.regclass);
        if not v_missed then
            v_large := not freshet.touch_partition(source, v_leaf::oid) or v_large;
            -- Truncated or rewritten before it was seen: rows may be gone again.
            v_gone := coalesce(pg_catalog.pg_relation_filenode(v_leaf::oid) <> v_leaf::oid, false) or v_gone;
        end if;
    end loop;
    if exists (select from pg_catalog.jsonb_object_keys(v_was -> 'leaves') k where not v_next -> 'leaves' ? k) then
        v_why := v_why || 'a partition was detached or dropped'::text;
        v_gone := true;
    end if;
    -- With the table locked none comes back before the note is gone.
    with taken as (
        delete from freshet.noted_partition n using freshet.settled_notes(v_source.id) t
        where n.source_id = v_source.id and n.relid = t.relid and n.attached = t.attached
          and (v_task is not null or t.stays and v_next -> 'leaves' ? n.relid::text)
        returning t.stays and v_next -> 'leaves' ? n.relid::text as known
    )
    select coalesce(not pg_catalog.bool_and(t.known), false) into v_noted from taken t;
    if v_noted then
        v_why := v_why || 'a partition came and went'::text;
        v_gone := true;
    end if;
    if v_gone then
        -- What backfills have read of it and not written they read anew, and what they are just
        -- writing is looked at once more: no change tells that its rows are gone.
        update freshet.backfill_range r
        set requested = pg_catalog.pg_current_snapshot()
        from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id
        where b.id = r.run_id and s.source_id = v_source.id and r.finished_at is null;
    end if;

    v_why := v_why || freshet.mend_sinks(v_source.id, v_was, v_now, v_source.relid <> (select o.relid from freshet.source o where o.id = v_source.id),
        v_missed, v_large, v_gone, v_next -> 'unfit' = 'true');

    -- What goes wrong again and again is not warmed for again and again without a pause.
    update freshet.source s
    set fingerprint = v_next, mend_error = null, mended_at = pg_catalog.clock_timestamp(),
        mend_tries = case when v_missed and s.mended_at > pg_catalog.clock_timestamp() - interval '10 minutes' then s.mend_tries + 1 else 0 end,
        mend_after = case when v_missed and s.mended_at > pg_catalog.clock_timestamp() - interval '10 minutes'
            then pg_catalog.clock_timestamp() + least(300, power(2, least(s.mend_tries, 10))) * interval '1 second' end
    where s.id = v_source.id;
    delete from freshet.capture_gap g where g.source_id = v_source.id and g.ctid = any (v_gaps);
    return nullif(pg_catalog.array_to_string(v_why, '; '), '');
end
$$;

revoke all on function freshet.mend_source(integer) from public;
