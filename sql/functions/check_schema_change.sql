-- Refuses what a sink cannot do when columns of its source change.
create or replace function freshet.check_schema_change(on_schema_change text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if on_schema_change is null or on_schema_change not in ('rewarm', 'notice') then
        raise exception 'on_schema_change: it is neither "rewarm" nor "notice" but "%"', coalesce(on_schema_change, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'rewarm: entries are written again by themselves; notice: the view sinks says that they should be.';
    end if;
end
$$;

revoke all on function freshet.check_schema_change(text) from public;
