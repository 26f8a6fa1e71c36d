-- Draws the value of this incarnation if there is none. Many workers may come at
-- once: the first one's value stays.
create or replace function freshet.renew_incarnation()
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into freshet.incarnation (value)
    values (pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 12))
    on conflict do nothing;
    return freshet.incarnation();
end
$$;

revoke all on function freshet.renew_incarnation() from public;
