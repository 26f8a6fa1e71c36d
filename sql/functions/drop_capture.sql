-- Removes the capture of a source that no sink needs any more. Called under freshet.lock_capture.
create or replace function freshet.drop_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid  oid;
begin
    if exists (select from freshet.sink s where s.source_id = drop_capture.source and s.state <> 'dropping') then
        return;
    end if;
    select s.relid into v_relid from freshet.source s where s.id = drop_capture.source;
    if exists (select from pg_catalog.pg_class c where c.oid = v_relid) then
        perform freshet.lock_source(v_relid, 'access exclusive', interval '10 seconds', true);
        if pg_catalog.to_regrole('freshet_worker') is not null
            and not exists (select from freshet.sink s where v_relid = any (s.reads) and s.state <> 'dropping')
        then
            execute pg_catalog.format('revoke select on %s from freshet_worker', v_relid::pg_catalog.regclass);
        end if;
    end if;
    -- The triggers go with their function.
    execute pg_catalog.format('drop function if exists freshet.%I() cascade', 'capture_' || source);
    execute pg_catalog.format('drop function if exists freshet.%I(text, integer)', 'keep_' || source);
    execute pg_catalog.format('drop table if exists freshet.%I cascade', 'changes_' || source);
    delete from freshet.segment g where g.source_id = drop_capture.source;
    delete from freshet.capture_gap g where g.source_id = drop_capture.source;
    delete from freshet.noted_partition n where n.source_id = drop_capture.source;
    -- The row stays for sinks whose entries are still being removed; a new sink on
    -- the same table gets a source of its own.
    update freshet.source s set relid = null where s.id = drop_capture.source;
end
$$;

revoke all on function freshet.drop_capture(integer) from public;
