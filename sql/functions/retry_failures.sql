-- Touches failing entries whose time has come, on these targets. Workers call it each
-- second, so that it depends on none of them. Returns how many it touched.
--
-- A lane that is not up to date is let alone: it has enough to do, and its change table
-- would grow while its target is away. What comes of the touch moves the time of the next
-- try, or takes the row away; where nothing does, it is touched again after a minute.
create or replace function freshet.retry_failures(targets text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_due      record;
    v_tuple    jsonb;
    v_touched  bigint := 0;
begin
    for v_due in
        with due as (
            select f.sink_id, f.target, f.key
            from freshet.failure f
            join freshet.sink s on s.id = f.sink_id
            join freshet.source o on o.id = s.source_id
            where f.next_try <= pg_catalog.clock_timestamp()
              and f.target = any (retry_failures.targets)
              and s.state = 'active'
              and o.relid is not null
              and not exists (
                  select from freshet.lease l
                  where l.sink_id = f.sink_id and l.target = f.target and l.kind = 'sync'
                    and coalesce(l.as_of < pg_catalog.clock_timestamp() - interval '1 minute', true))
            order by f.next_try
            limit 500
            for update of f skip locked
        ), tried as (
            update freshet.failure f
            set next_try = pg_catalog.clock_timestamp() + greatest(freshet.retry_pause(f.attempts), interval '1 minute')
            from due
            where f.sink_id = due.sink_id and f.target = due.target and f.key = due.key
            returning f.sink_id, f.tuple
        )
        select t.sink_id, pg_catalog.jsonb_agg(distinct pg_catalog.to_jsonb(t.tuple)) as tuples
        from tried t
        group by t.sink_id
    loop
        begin
            v_touched := v_touched + freshet.touch_keys(v_due.sink_id, v_due.tuples);
        exception
            -- A key column that was retyped may not take the text any more: no row can have such a key. One entry
            -- must not keep the others from being tried, and one sink not the others.
            when data_exception then
                for v_tuple in select t from pg_catalog.jsonb_array_elements(v_due.tuples) as t loop
                    begin
                        v_touched := v_touched + freshet.touch_keys(v_due.sink_id, pg_catalog.jsonb_build_array(v_tuple));
                    exception when data_exception then
                        raise warning 'a failing entry of sink % is of no row any more (SQLSTATE %)', (select s.name from freshet.sink s where s.id = v_due.sink_id), sqlstate;
                        delete from freshet.failure f where f.sink_id = v_due.sink_id and pg_catalog.to_jsonb(f.tuple) = v_tuple;
                    end;
                end loop;
            when syntax_error_or_access_rule_violation then
                raise warning 'failing entries of sink % cannot be tried again: %', (select s.name from freshet.sink s where s.id = v_due.sink_id), sqlerrm;
        end;
    end loop;
    return v_touched;
end
$$;

revoke all on function freshet.retry_failures(text[]) from public;
