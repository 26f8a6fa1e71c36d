-- The River queue of what is offered to a worker.
create or replace function freshet.queue_of(worker text)
returns text
language sql
immutable strict
set search_path = pg_catalog, pg_temp
as $$
    select 'worker_' || pg_catalog.md5(worker)
$$;

revoke all on function freshet.queue_of(text) from public;
