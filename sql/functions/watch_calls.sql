-- Takes the functions that the sinks of a source call as they are now, those that were not watched
-- yet: what becomes of them from here on is noticed.
create or replace function freshet.watch_calls(source integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.source s
    set fingerprint = s.fingerprint || pg_catalog.jsonb_build_object(
        'calls', freshet.fingerprint(s.id) -> 'calls' || coalesce(s.fingerprint -> 'calls', '{}'))
    where s.id = watch_calls.source and s.fingerprint is not null
      and exists (select from freshet.sink k where k.source_id = s.id and k.calls <> '[]')
$$;

revoke all on function freshet.watch_calls(integer) from public;
