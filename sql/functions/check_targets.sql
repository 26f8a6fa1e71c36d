-- Refuses a list of targets that cannot be served.
create or replace function freshet.check_targets(targets text[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  text;
begin
    if coalesce(pg_catalog.cardinality(targets), 0) = 0 then
        raise exception 'targets: the list is empty' using errcode = 'invalid_parameter_value',
            hint = 'Leave targets out for the target "default".';
    end if;
    foreach v_target in array targets loop
        if v_target is null or v_target !~ '^[a-z][a-z0-9_]{0,47}$' then
            raise exception 'targets: "%" is not the name of a target', v_target
                using errcode = 'invalid_parameter_value',
                      hint = 'A target is named as in the worker''s environment: FRESHET_REDIS_URL_EU is the target "eu".';
        end if;
    end loop;
    if (select count(distinct t) < count(*) from pg_catalog.unnest(targets) as t) then
        raise exception 'targets: a target is named twice' using errcode = 'invalid_parameter_value';
    end if;
end
$$;

revoke all on function freshet.check_targets(text[]) from public;
