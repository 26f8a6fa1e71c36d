-- The River queue of work for a target that needs a function of Go, null for none: a worker
-- has those of all that it can do. Ranges of backfills have queues of their own, from which a
-- worker takes as many as it has hands for, and the rest is there for others.
create or replace function freshet.queue_for(kind text, target text, function text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when kind = 'backfill' then 'backfill_' else 'target_' end
        -- River wants at most 64 characters, and single underscores between others.
        || case when function is not null then pg_catalog.md5(target || ' ' || function)
               when target ~ '__|_$' then pg_catalog.md5(target)
               else target end
$$;

revoke all on function freshet.queue_for(text, text, text) from public;
