-- Refuses a number of shards that makes no sense.
create or replace function freshet.check_shards(shards integer)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if shards is null or shards not between 1 and 64 then
        raise exception 'shards: % is not between 1 and 64', coalesce(shards::text, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'One shard keeps up with most tables; more let several workers share the changes of one sink.';
    end if;
end
$$;

revoke all on function freshet.check_shards(integer) from public;
