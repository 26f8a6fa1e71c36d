-- Makes this another server by its incarnation, for it has gone back in time: the same
-- positions and transaction ids come to mean something else than in the future that it has
-- lost. Once for everybody who finds that out in one incarnation.
create or replace function freshet.renew_past(incarnation text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.commit_to_disk();
    -- Asked again under its lock: another lane may have been first.
    perform from freshet.installation n for update;
    if freshet.incarnation() is distinct from renew_past.incarnation then
        return false;
    end if;
    update freshet.installation n
    set past = pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 8);
    return true;
end
$$;

revoke all on function freshet.renew_past(text) from public;
