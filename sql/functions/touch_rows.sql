-- Touches the tuple of every row of a sink's source in (lower, upper], tuples of its
-- order columns.
create or replace function freshet.touch_rows(sink integer, lower text[], upper text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_sink     freshet.sink;
    v_relid    oid;
    v_all      text;
begin
    select * into strict v_sink from freshet.sink s where s.id = touch_rows.sink;
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_all
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = v_relid and a.attnum = k.attnum
    where s.id = v_sink.source_id;
    -- While the lock is held no policy changes.
    execute pg_catalog.format('lock table %s in access share mode', v_relid::pg_catalog.regclass);
    perform freshet.check_visible(v_relid);
    return freshet.touch(v_sink.source_id,
        pg_catalog.format('select %s from %s t where %s', v_all, v_relid::pg_catalog.regclass,
            freshet.within(v_sink.id, freshet.order_terms(v_sink.id, 't', false), lower, upper)));
end
$$;

revoke all on function freshet.touch_rows(integer, text[], text[]) from public;
