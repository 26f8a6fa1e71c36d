-- Touches key tuples of a sink: [["1", "a"], ["2", "b"]], each in the order of the
-- sink's key columns by attribute number. Returns how many were touched.
--
-- The text of a key reads back the same under any settings but two: money has the form
-- of a locale, and {NULL} may be a word.
create or replace function freshet.touch_keys(sink integer, keys jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_sink     freshet.sink;
    v_columns  text;
begin
    select * into strict v_sink from freshet.sink s where s.id = touch_keys.sink;

    -- Columns that only other sinks of the source use stay null: those sinks skip the tuple.
    select pg_catalog.string_agg(
        case when p.n is null then pg_catalog.format('null::%s', pg_catalog.format_type(a.atttypid, a.atttypmod))
             else pg_catalog.format('(key ->> %s)::%s', p.n - 1, pg_catalog.format_type(a.atttypid, a.atttypmod)) end,
        ', ' order by k.attnum)
    into v_columns
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.id) and a.attname = 'k' || k.attnum
    left join pg_catalog.unnest(v_sink.key_attnums) with ordinality as p (attnum, n) on p.attnum = k.attnum
    where s.id = v_sink.source_id;

    return freshet.touch(v_sink.source_id,
        pg_catalog.format('select %s from pg_catalog.jsonb_array_elements(%L::jsonb) as key', v_columns, keys));
end
$$;

revoke all on function freshet.touch_keys(integer, jsonb) from public;
