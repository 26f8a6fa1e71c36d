-- Has this transaction wait for the disk when it commits, whatever the session says: what a target is
-- told next must not be forgotten by a crash.
create or replace function freshet.commit_to_disk()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.current_setting('synchronous_commit') = 'off' then
        perform pg_catalog.set_config('synchronous_commit', 'local', true);
    end if;
end
$$;

revoke all on function freshet.commit_to_disk() from public;
