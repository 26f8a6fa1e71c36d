-- Refuses a number of rows a second that nothing could be done at.
create or replace function freshet.check_rate(argument text, rate integer)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if rate < 1 then
        raise exception '%: % rows a second is no rate', argument, rate
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Leave %s out for no limit.', argument);
    end if;
end
$$;

revoke all on function freshet.check_rate(text, integer) from public;
