-- Refuses an argument whose feature this version does not have.
create or replace function freshet.refuse_later(argument text, given boolean)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if given then
        raise exception '%: this version of Freshet does not support the argument yet', argument
            using errcode = 'feature_not_supported',
                  hint = pg_catalog.format('Leave %s out.', argument);
    end if;
end
$$;

revoke all on function freshet.refuse_later(text, boolean) from public;
