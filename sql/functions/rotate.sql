-- Keeps a source's change table small: lets lanes lapse that are behind for longer than
-- their sink allows, has triggers go on to an empty segment when theirs is old or large,
-- and empties segments in which everything was applied long enough ago. Called every few
-- seconds by every worker; one at a time does it.
create or replace function freshet.rotate(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Others wait for what this has locked: it is tried again in a few seconds.
set lock_timeout = '500ms'
set enable_seqscan = off
set jit = off
as $$
declare
    v_set      freshet.installation;
    v_segment  record;
    v_spare    integer;
    v_passed   pg_snapshot;
    v_left     boolean;
    v_noted    boolean := false;
    v_did      boolean := false;   -- anything, so that it is not to be undone
    v_emptied  boolean;
    v_refused  text;
    v_now      jsonb;
begin
    if not pg_catalog.pg_try_advisory_xact_lock(1181905014, source)
        or pg_catalog.to_regclass('freshet.changes_' || source) is null
        -- What is damaged is mended first, and not covered up: also in the pause before
        -- that, for what rotation notes of the catalog would then be the damage.
        or freshet.needs_mending(source)
        or freshet.is_altered(source)
    then
        return;
    end if;
    select * into strict v_set from freshet.installation;

    update freshet.lease l
    set lapsed = true
    from freshet.sink s
    where s.id = l.sink_id and s.source_id = rotate.source and l.kind = 'sync' and not l.lapsed
      and (coalesce(l.as_of, s.created_at) < pg_catalog.clock_timestamp() - s.max_lag
           or case when s.max_pending is not null then s.max_pending < freshet.pending(s.source_id,
               coalesce(l.passed, pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot), s.max_pending + 1) end);
    v_did := found;

    -- Snapshots of one server are in order, but for those of lanes that begin just now.
    with lanes as (
        -- The cursor, and not what the lane has passed beyond it with nothing to do: another
        -- worker goes on from the cursor.
        select pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot as passed
        from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where s.source_id = rotate.source and l.kind = 'sync' and not l.lapsed and s.state <> 'dropping'
    )
    select p.passed into v_passed
    from (select l.passed from lanes l union all select freshet.cursor_now() where not exists (select from lanes)) p
    where not exists (select from lanes o where not freshet.snapshot_covers(o.passed, p.passed))
    limit 1;
    if not found then
        return;
    end if;

    select g.number, g.current_since, pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) as bytes
    into v_segment
    from freshet.segment g
    where g.source_id = rotate.source and g.current_since is not null;
    if v_segment.bytes > v_set.rotate_bytes
        or (v_segment.bytes > 0 and v_segment.current_since < pg_catalog.clock_timestamp() - v_set.rotate_after)
    then
        select g.number into v_spare
        from freshet.segment g
        where g.source_id = rotate.source and g.current_since is null
          and pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) = 0
        order by g.created_at
        limit 1;
        if not found then
            execute pg_catalog.format('select freshet.%I(''create'', null)', 'keep_' || source);
            v_noted := true;
        -- A statement that reads the change table may have been planned before a segment was
        -- made; it must be over before anything is written there.
        elsif (select g.created_at < pg_catalog.clock_timestamp() - v_set.settle_after
               from freshet.segment g where g.source_id = rotate.source and g.number = v_spare)
        then
            execute pg_catalog.format('select freshet.%I(''switch'', $1)', 'keep_' || source) using v_spare;
            v_noted := true;
        end if;
    end if;

    -- What rotation itself changes in the catalog is no damage.
    if v_noted then
        v_did := true;
        v_now := freshet.fingerprint(source);
        update freshet.source s
        set fingerprint = s.fingerprint || pg_catalog.jsonb_build_object('function', v_now -> 'function', 'changes', v_now -> 'changes')
        where s.id = rotate.source;
    end if;

    for v_segment in
        select g.number, g.consumed, g.consumed_at
        from freshet.segment g
        where g.source_id = rotate.source and g.current_since is null
          and pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) > 0
        order by g.number
    loop
        if v_segment.consumed_at < pg_catalog.clock_timestamp() - v_set.retention
            and freshet.snapshot_covers(v_passed, v_segment.consumed)
        then
            begin
                execute pg_catalog.format('select freshet.%I(''truncate'', $1)', 'keep_' || source) into v_emptied using v_segment.number;
                -- Or it was found to have what is not consumed, and noted so.
                v_did := v_did or v_emptied or exists (
                    select from freshet.segment g
                    where g.source_id = rotate.source and g.number = v_segment.number and g.consumed is null);
            exception when object_not_in_prerequisite_state then
                v_refused := sqlerrm;
            end;
        elsif v_segment.consumed is null or not freshet.snapshot_covers(v_passed, v_segment.consumed) then
            v_left := freshet.has_unseen(source, v_segment.number, v_passed);
            update freshet.segment g
            set consumed = case when not v_left then v_passed end,
                consumed_at = case when not v_left then pg_catalog.clock_timestamp() end
            where g.source_id = rotate.source and g.number = v_segment.number
              and (g.consumed is not null or not v_left);
            v_did := v_did or found;
        end if;
    end loop;
    -- What one segment is refused for is told when nothing else is undone by it.
    if v_refused is not null and not v_did then
        raise exception '%', v_refused using errcode = 'object_not_in_prerequisite_state';
    end if;
end
$$;

revoke all on function freshet.rotate(integer) from public;
