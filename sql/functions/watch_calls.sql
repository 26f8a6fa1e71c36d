-- Takes what the expressions of a source's sinks are made of as it is now, those that were not watched
-- yet: what becomes of them from here on is noticed.
create or replace function freshet.watch_calls(source integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.source s
    set fingerprint = s.fingerprint || pg_catalog.jsonb_build_object(
        'calls', f.now -> 'calls' || coalesce(s.fingerprint -> 'calls', '{}'), 'types', f.now -> 'types' || coalesce(s.fingerprint -> 'types', '{}'))
    from (select freshet.fingerprint(watch_calls.source) as now) f
    where s.id = watch_calls.source and s.fingerprint is not null
      and exists (select from freshet.sink k where k.source_id = s.id and k.calls <> '[]')
$$;

revoke all on function freshet.watch_calls(integer) from public;
