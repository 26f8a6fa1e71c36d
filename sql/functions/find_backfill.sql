-- A backfill by its number, for its sink's owner, locked after its sink. Refuses one that
-- is over.
create or replace function freshet.find_backfill(id bigint)
returns freshet.backfill_run
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select b.* into v_run from freshet.backfill_run b where b.id = find_backfill.id;
    if not found then
        raise exception 'id: there is no backfill %', id
            using errcode = 'undefined_object', hint = 'The view freshet.backfills lists them.';
    end if;
    perform freshet.check_owner(v_run.sink_id);
    perform from freshet.sink s where s.id = v_run.sink_id for update;
    select b.* into strict v_run from freshet.backfill_run b where b.id = find_backfill.id for update;
    if v_run.state in ('sweeping', 'completed', 'cancelled') then
        raise exception 'id: backfill % has written its last row', id
            using errcode = 'object_not_in_prerequisite_state',
                  hint = pg_catalog.format('Its state is %s.', v_run.state);
    end if;
    return v_run;
end
$$;

revoke all on function freshet.find_backfill(bigint) from public;
