-- Whether a function that Postgres calls stable depends on its arguments and on settings
-- only that are the same for every worker: TimeZone, DateStyle, IntervalStyle, bytea_output,
-- extra_float_digits and lc_monetary. It is a property that the catalog does not have.
create or replace function freshet.is_settled(function oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_proc p
        where p.oid = function and p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
          and (p.proname ~ '^(to_jsonb?|row_to_json|array_to_json|jsonb?_build_(object|array)|jsonb?_(agg|object_agg)(_strict|_unique|_unique_strict)?|jsonb?_(populate_record|populate_recordset|to_record|to_recordset))$'
              or p.proname in ('format', 'concat', 'concat_ws', 'textanycat', 'anytextcat', 'array_to_string', 'quote_literal', 'quote_nullable', 'convert_to', 'convert_from', 'convert')
              or p.proname in ('to_char', 'to_date', 'to_timestamp', 'date_trunc', 'date_part', 'extract', 'timezone', 'make_timestamptz')
              -- Casts between moments, and what compares and adds them.
              or p.proname in ('date', 'time', 'timetz', 'timestamp', 'timestamptz')
              or p.proname ~ '^(timestamptz_(pl|mi)_interval|interval_pl_timestamptz|date_(add|subtract))$'
              or p.proname ~ '^(timestamp|date)_(lt|le|eq|ne|ge|gt|cmp)_timestamptz$'
              or p.proname ~ '^timestamptz_(lt|le|eq|ne|ge|gt|cmp)_(timestamp|date)$'
              or p.proname in ('money', 'numeric') and p.pronargs = 1))
$$;

revoke all on function freshet.is_settled(oid) from public;
