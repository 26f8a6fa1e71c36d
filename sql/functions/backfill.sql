-- Writes the entry of every row of a sink's source, or of those that a filter selects, at
-- no more than `rate` rows a second. Returns the number of the backfill, as in the view
-- backfills.
create or replace function freshet.backfill(sink text, filter text default null, rate integer default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_relid  oid;
    v_run    bigint;
begin
    v_sink := freshet.find_sink(sink);
    perform freshet.check_owner(v_sink.id);
    perform freshet.check_rate('rate', rate);
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    if v_relid is null or v_sink.broken is not null then
        raise exception 'sink: nothing can be written for "%": %', sink, coalesce(v_sink.broken, 'its source is gone')
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform freshet.check_expression(v_relid, 'filter', filter, 'condition');
    v_run := freshet.request_backfill(v_sink.id, 'user', filter, rate, filter is null);
    if (select b.created_at < pg_catalog.transaction_timestamp() from freshet.backfill_run b where b.id = v_run) then
        raise notice 'backfill % is not at its end yet: what it had written is written again', v_run;
    end if;
    return v_run;
end
$$;

comment on function freshet.backfill(text, text, integer)
is 'Writes the entry of every row of the sink''s source, or of those that a filter selects. Returns the number of the backfill, as in the view backfills.';
revoke all on function freshet.backfill(text, text, integer) from public;
