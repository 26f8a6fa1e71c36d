-- Whether capture of a source is to be mended now: something is missing or altered, or is said
-- to be, or a sink has been broken for a while, and it is not the pause after an attempt.
create or replace function freshet.needs_mending(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select (s.mend_after is null or s.mend_after < pg_catalog.clock_timestamp())
       and (exists (select from freshet.capture_gap g where g.source_id = s.id)
            or exists (select from freshet.noted_partition n where n.source_id = s.id) and exists (select from freshet.settled_notes(s.id))
            or s.mend_error is not null
            or exists (select from freshet.sink k where k.source_id = s.id and k.broken is not null and k.state <> 'dropping'
                                                    and k.survey_after < pg_catalog.clock_timestamp())
            or freshet.is_altered(s.id))
    from freshet.source s
    where s.id = needs_mending.source);
end
$$;

revoke all on function freshet.needs_mending(integer) from public;
