-- Whether two key templates could render the same key.
create or replace function freshet.keys_overlap(one jsonb, other jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select freshet.tokens_overlap(freshet.key_tokens(one), freshet.key_tokens(other))
$$;

revoke all on function freshet.keys_overlap(jsonb, jsonb) from public;
