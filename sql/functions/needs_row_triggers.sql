-- Whether only row-level triggers see everything that is written to a table.
create or replace function freshet.needs_row_triggers(source oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select c.relkind = 'p' or exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = c.oid)
    from pg_catalog.pg_class c
    where c.oid = needs_row_triggers.source
$$;

revoke all on function freshet.needs_row_triggers(oid) from public;
