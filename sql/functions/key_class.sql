-- The characters that a column of a key can render to, as the inside of a regular
-- expression's brackets. Null: any text at all.
create or replace function freshet.key_class(type oid, modifiers jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when coalesce(modifiers, '[]') ? 'url' then 'A-Za-z0-9._~%-'
        when type in (20, 21, 23) then '0-9-'                       -- int8, int2, int4
        when type = 26 then '0-9'                                   -- oid
        when type = 16 then 'a-z'                                   -- bool
        when type = 2950 then '0-9a-f-'                             -- uuid
        when type in (700, 701, 1700) then '0-9.eINadfinty+-'       -- float4, float8, numeric
        when type = 1082 then '0-9BC infty-'                        -- date
        when type in (1083, 1114, 1184) then '0-9BC infty:.+-'      -- time, timestamp, timestamptz
        -- A class has a backslash twice, whatever standard_conforming_strings says.
        when type = 17 then E'\\\\x0-9a-f'                          -- bytea
    end
$$;

revoke all on function freshet.key_class(oid, jsonb) from public;
