-- Lets one transaction at a time change which sinks there are: what it checks (that no
-- other sink writes these keys, that none needs this capture) has to hold until it ends.
create or replace function freshet.lock_definitions()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_advisory_xact_lock(1181905013)
$$;

revoke all on function freshet.lock_definitions() from public;
