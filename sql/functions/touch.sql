-- Touches the tuples that a query returns: the key columns of a source by attribute
-- number, as the change table has them. Returns how many they were. Readers read every
-- segment, so the one that the triggers have left behind would do as well.
create or replace function freshet.touch(source integer, query text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment  text;
    v_columns  text;
    v_touched  bigint;
begin
    select 'changes_' || s.id || '_' || s.segment,
           (select pg_catalog.string_agg('k' || k.attnum, ', ' order by k.attnum)
            from pg_catalog.unnest(s.key_attnums) as k (attnum))
    into strict v_segment, v_columns
    from freshet.source s
    where s.id = touch.source;
    execute pg_catalog.format('insert into freshet.%I (op, %s) select ''r'', touched.* from (%s) as touched',
        v_segment, v_columns, query);
    get diagnostics v_touched = row_count;
    if v_touched > 0 then
        perform freshet.ring(source);
    end if;
    return v_touched;
end
$$;

revoke all on function freshet.touch(integer, text) from public;
