-- Looks whether a sink still makes sense after the columns or indexes of its source have
-- changed, and notes their types. What is wrong stops the sink, and is said in status.
create or replace function freshet.resurvey(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_relid  oid;
    v_parts  jsonb;
    v_order  smallint[];
    v_what   text;
    v_wrong  text;
begin
    select s.* into strict v_sink from freshet.sink s where s.id = resurvey.sink;
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    begin
        perform freshet.check_kind(v_relid);
        if exists (
            select from pg_catalog.unnest(v_sink.key_attnums) as u (attnum)
            where not exists (
                select from pg_catalog.pg_attribute a where a.attrelid = v_relid and a.attnum = u.attnum and not a.attisdropped))
        then
            raise exception 'key: a column of "%" is gone from %', v_sink.key, v_relid::pg_catalog.regclass;
        end if;
        v_parts := freshet.named_key(v_relid, v_sink.key_parts);
        v_order := freshet.walk_index(v_relid, v_parts, v_sink.grouped);
        if v_order is null then
            raise exception 'key: no % any more', pg_catalog.format(case when v_sink.grouped then 'index of %s begins with the columns of "%s"'
                else 'unique index of %s covers the columns of "%s"' end, v_relid::pg_catalog.regclass, v_sink.key);
        end if;
        perform freshet.check_key(v_parts);
        v_what := case when v_sink.grouped then 'group' else 'row' end;
        perform freshet.check_expression(v_relid, 'filter', v_sink.filter, 'condition');
        perform freshet.check_moment(v_relid, v_sink.expires_at, v_what);
        update freshet.sink s
        set value_type = freshet.check_expression(v_relid, 'value', v_sink.value, v_what),
            key_parts = v_parts, order_attnums = v_order, folded_attnums = freshet.folded(v_relid, v_parts)
        where s.id = v_sink.id;
        if (v_order, freshet.folded(v_relid, v_parts)) is distinct from (v_sink.order_attnums, v_sink.folded_attnums) then
            perform freshet.restart_ranges(v_sink.id);
        end if;
    exception when lock_not_available then
        -- Nothing is wrong with the sink. Whoever asked tries again.
        raise;
    when others then
        v_wrong := sqlerrm;
    end;
    -- It can be over by what nobody tells: a right that is granted again, an index that is no unique one.
    update freshet.sink s
    set broken = v_wrong, survey_after = case when v_wrong is not null then pg_catalog.clock_timestamp() + interval '5 seconds' end
    where s.id = v_sink.id and (v_wrong is not null or s.broken is not null);
end
$$;

revoke all on function freshet.resurvey(integer) from public;
