-- Refuses limits of a backlog that make no sense.
create or replace function freshet.check_limits(max_lag interval, max_pending bigint)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if max_lag is null or max_lag < interval '1 minute' then
        raise exception 'max_lag: % is shorter than a minute', coalesce(max_lag::text, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'It is how long a sink may be paused or away before its backlog is let go and it is warmed again.';
    end if;
    if max_pending < 1000 then
        raise exception 'max_pending: % is less than a thousand', max_pending
            using errcode = 'invalid_parameter_value', hint = 'Leave max_pending out for no limit.';
    end if;
end
$$;

revoke all on function freshet.check_limits(interval, bigint) from public;
