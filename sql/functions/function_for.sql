-- The function of Go that somebody has to have who works on a lease; null if it needs none.
-- What only removes entries makes none.
create or replace function freshet.function_for(sink freshet.sink, lease freshet.lease)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case when lease.kind in ('sync', 'backfill', 'sweep') and not lease.closing
                     and sink.state not in ('retiring', 'dropping')
                then pg_catalog.substring(sink.transform, '^go:(.*)$') end
$$;

revoke all on function freshet.function_for(freshet.sink, freshet.lease) from public;
