-- Whether a name has another value in the one object than in the other. Names that only one of
-- them has do not count.
create or replace function freshet.differs(was jsonb, now jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.jsonb_each(was) w join pg_catalog.jsonb_each(now) n on n.key = w.key
        where n.value <> w.value)
$$;

revoke all on function freshet.differs(jsonb, jsonb) from public;
