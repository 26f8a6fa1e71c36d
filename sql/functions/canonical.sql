-- The text itself if it is what the type would print for it, else null: '7' for an
-- integer, but not '07', and not 'x'. Under the settings that keys are rendered with.
create or replace function freshet.canonical(value text, type text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_printed  text;
begin
    execute pg_catalog.format('select ($1::%s)::pg_catalog.text', type) into v_printed using value;
    return case when v_printed = value then value end;
exception
    -- Whatever a type, or the check of a domain, says of a text that is none of its own.
    when data_exception or syntax_error_or_access_rule_violation or integrity_constraint_violation
        or program_limit_exceeded or feature_not_supported or raise_exception then
        return null;
end
$$;

revoke all on function freshet.canonical(text, text) from public;
