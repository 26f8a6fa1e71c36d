-- Looks at a sink anew whose value has come to be of another type, by a function or a table that
-- it looks into: what happens to the source itself is seen by freshet.mend. Every worker that
-- reads for it finds that out, and the first one changes something.
create or replace function freshet.retype(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_wrong  text;
begin
    select * into v_sink from freshet.sink s where s.id = retype.sink for update;
    if not found or v_sink.state = 'dropping' then
        return;
    end if;
    perform freshet.resurvey(retype.sink);
    select s.broken into v_wrong from freshet.sink s where s.id = retype.sink;
    if v_wrong is not null and v_sink.broken is null then
        -- Such as a right that is missing for the moment: it is the batch's failure, and tried again.
        raise exception '%', v_wrong;
    end if;
    if exists (select from freshet.sink s where s.id = retype.sink and s.value_type is not distinct from v_sink.value_type) then
        return;
    end if;
    update freshet.sink s
    set definition = s.definition + 1, revision = s.revision + 1,
        notice = case when s.on_schema_change = 'notice' then pg_catalog.format(
            'the value has come to be of another type on %s: run select freshet.backfill(%L) to give older entries their new shape',
            pg_catalog.to_char(pg_catalog.now(), 'YYYY-MM-DD'), s.name) else s.notice end
    where s.id = retype.sink;
    if v_sink.on_schema_change = 'rewarm' then
        perform freshet.request_rewarm(retype.sink, false);
    end if;
end
$$;

revoke all on function freshet.retype(integer) from public;
