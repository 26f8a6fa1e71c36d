-- Ends a backfill before its end, but for a re-warm of entries that may be wrong. What it has written
-- stays, and is right; each range's holder looks a last time at what changed while its last chunk was
-- written.
create or replace function freshet.cancel_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run := freshet.find_backfill(id);
begin
    if v_run.repairs then
        raise exception 'id: backfill % sets entries right that may be wrong, and is not cancelled', v_run.id
            using errcode = 'object_not_in_prerequisite_state',
                  hint = pg_catalog.format('To have it wait run: select freshet.pause_backfill(%s);', v_run.id);
    end if;
    update freshet.backfill_run b
    set state = 'cancelled', finished_at = pg_catalog.clock_timestamp()
    where b.id = v_run.id;
    -- What was lost before a re-warm, or never written before the first backfill, is not
    -- there now.
    update freshet.sink s
    set revision = s.revision + 1,
        coverage = case when v_run.needed then 'lazy' else s.coverage end
    where s.id = v_run.sink_id;
    perform freshet.unpark(array[v_run.id]);
end
$$;

comment on function freshet.cancel_backfill(bigint) is 'Ends a backfill before its end. What it has written stays.';
revoke all on function freshet.cancel_backfill(bigint) from public;
