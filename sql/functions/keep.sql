-- What only the owner of a capture may do, one task at a time:
--   capture   write the capture anew, with the source locked
--   renew     the same, into a segment that was never written to
--   rebuild   the same, with a new change table
--   leaves    make triggers for partitions that have none yet, with the source locked
--   create    make one segment more
--   switch    let triggers write to a segment
--   truncate  empty a segment; false if somebody is at it, or it has what is not consumed
create or replace function freshet.keep(source integer, task text, segment integer)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment   freshet.segment;
    v_relation  text := 'freshet.changes_' || source || '_' || segment;
    v_alien     text;
begin
    if task in ('capture', 'renew', 'rebuild', 'leaves') then
        -- With the change table locked, too, nobody reads it by a plan from before. One attempt:
        -- whoever mends comes again, and a migration that waits for that one to change a sink
        -- must not have waited for so long that it looks for a deadlock.
        perform freshet.lock_source((select s.relid from freshet.source s where s.id = keep.source),
            'share row exclusive', interval '0', task <> 'leaves');
        if task = 'leaves' then
            perform freshet.make_triggers(source);
            return true;
        end if;
        -- One that was another's may have things of his on it, which would run with the keeper's rights.
        perform freshet.refit_change_table(source, task = 'rebuild' or exists (
            select from pg_catalog.pg_class c join pg_catalog.pg_proc p
                on p.oid = pg_catalog.to_regprocedure('freshet.keep_' || source || '(text, integer)') and p.proowner <> c.relowner
            where c.oid = pg_catalog.to_regclass('freshet.changes_' || source)));
        if task = 'renew' and exists (select from freshet.segment g where g.source_id = keep.source) then
            update freshet.segment g set current_since = null where g.source_id = keep.source;
            insert into freshet.segment (source_id, number, current_since)
            select keep.source, max(g.number) + 1, pg_catalog.clock_timestamp() from freshet.segment g where g.source_id = keep.source;
            update freshet.source s
            set segment = (select g.number from freshet.segment g where g.source_id = s.id and g.current_since is not null)
            where s.id = keep.source;
        end if;
        perform freshet.make_capture(source);
        perform freshet.grant_source(source);
        return true;
    elsif task = 'create' then
        insert into freshet.segment (source_id, number)
        select keep.source, max(g.number) + 1 from freshet.segment g where g.source_id = keep.source;
        perform freshet.make_change_table(source);
        perform freshet.grant_source(source);
        return true;
    elsif task = 'switch' then
        update freshet.segment g
        set current_since = case when g.number = keep.segment then pg_catalog.clock_timestamp() end,
            consumed_at = null, consumed = null
        where g.source_id = keep.source and (g.number = keep.segment or g.current_since is not null);
        update freshet.source s set segment = keep.segment where s.id = keep.source;
        perform freshet.make_capture_function(source);
        return true;
    elsif task = 'truncate' then
        select * into strict v_segment from freshet.segment g where g.source_id = keep.source and g.number = keep.segment;
        begin
            -- Readers and writers who come meanwhile wait as long.
            set local lock_timeout = '50ms';
            execute pg_catalog.format('lock table only %s in access exclusive mode', v_relation);
        exception when lock_not_available then
            return false;
        end;
        -- None of this is Freshet's, and it would run here, with the rights of the keeper's owner.
        select pg_catalog.string_agg(o.what, ', ') into v_alien
        from (
            select 'trigger ' || t.tgname from pg_catalog.pg_trigger t where t.tgrelid = v_relation::pg_catalog.regclass
            union all
            select 'rule ' || r.rulename from pg_catalog.pg_rewrite r where r.ev_class = v_relation::pg_catalog.regclass
            union all
            select 'policy ' || p.polname from pg_catalog.pg_policy p where p.polrelid = v_relation::pg_catalog.regclass) o (what);
        if v_alien is not null then
            raise exception '% is not emptied, for it has what Freshet has not made: %', v_relation, v_alien
                using errcode = 'object_not_in_prerequisite_state',
                      hint = pg_catalog.format('Drop that. If you do not know it, see what the owner of the table "%s" did.',
                          (select s.table_name from freshet.source s where s.id = keep.source));
        end if;
        -- Locked first and looked at then: a transaction that was open when the triggers
        -- went on may have written here since it was found to be consumed.
        if v_segment.current_since is not null or v_segment.consumed is null then
            return false;
        end if;
        if freshet.has_unseen(source, segment, v_segment.consumed) then
            update freshet.segment g set consumed_at = null, consumed = null
            where g.source_id = keep.source and g.number = keep.segment;
            return false;
        end if;
        execute pg_catalog.format('truncate only %s', v_relation);
        update freshet.source s set floor = v_segment.consumed
        where s.id = keep.source and freshet.snapshot_covers(v_segment.consumed, s.floor);
        update freshet.segment g set consumed_at = null, consumed = null
        where g.source_id = keep.source and g.number = keep.segment;
        return true;
    end if;
    raise exception 'task: "%" is unknown', task using errcode = 'invalid_parameter_value';
end
$$;

revoke all on function freshet.keep(integer, text, integer) from public;
