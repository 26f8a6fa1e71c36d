-- Looks again at the sinks of a source that are broken, where the source is as it was. Returns which
-- are not any more, null if there is none.
create or replace function freshet.survey_broken(source integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  record;
    v_well  text[] := '{}';
begin
    for v_sink in
        select s.id, s.name from freshet.sink s
        where s.source_id = survey_broken.source and s.broken is not null and s.state <> 'dropping'
        order by s.id
    loop
        begin
            perform freshet.retype(v_sink.id);
        exception when lock_not_available then
            -- Nothing is wrong with the source, and the others would wait for the same.
            update freshet.sink s set survey_after = pg_catalog.clock_timestamp() + interval '5 seconds'
            where s.source_id = survey_broken.source and s.broken is not null;
            exit;
        end;
        update freshet.sink s set revision = s.revision + 1 where s.id = v_sink.id and s.broken is null;
        if found then
            v_well := v_well || pg_catalog.format('nothing stops the sink %I any more', v_sink.name);
        end if;
    end loop;
    return nullif(pg_catalog.array_to_string(v_well, '; '), '');
end
$$;

revoke all on function freshet.survey_broken(integer) from public;
