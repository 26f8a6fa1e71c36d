-- How long an entry waits that has failed so many times: a second, doubling, ten minutes at
-- most, a quarter more or less so that those that failed together are not tried together.
create or replace function freshet.retry_pause(attempts integer)
returns interval
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select least(600, pg_catalog.power(2, least(attempts, 20) - 1)) * (0.75 + pg_catalog.random() / 2) * interval '1 second'
$$;

revoke all on function freshet.retry_pause(integer) from public;
