-- Refuses templates in which two tuples could render the same key: every column
-- but one must render to characters that cannot be taken for what follows it.
create or replace function freshet.check_key(source oid, parts jsonb)
returns void
language plpgsql
stable
set search_path = ''
as $$
declare
    v_part    jsonb;
    v_open    name;      -- the column whose text runs up to here
    v_chars   text;      -- the characters that it can render
    v_free    integer := 0;
    v_type    text;
begin
    for v_part in select p from pg_catalog.jsonb_array_elements(parts) as p loop
        if v_part ? 'text' then
            if v_open is not null and pg_catalog.substr(v_part ->> 'text', 1, 1) !~ ('[' || v_chars || ']') then
                v_open := null;
            end if;
            continue;
        end if;

        if v_open is not null then
            raise exception 'key: two rows could get the same key, for it does not show where ${%} ends and ${%} begins',
                v_open, v_part ->> 'column'
                using errcode = 'invalid_parameter_value',
                      hint = 'Put text between them, such as a colon, that the first cannot contain.';
        end if;

        select t.typname into v_type
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_type t on t.oid = freshet.base_type(a.atttypid)
        where a.attrelid = source and a.attname = v_part ->> 'column';
        v_open := v_part ->> 'column';
        v_chars := case
            when v_type in ('int2', 'int4', 'int8', 'oid', 'date') then '0-9BC infity-'
            when v_type = 'uuid' then '0-9a-f-'
            when v_type = 'bool' then 'a-z'
            else null
        end;
        if v_chars is null then
            v_free := v_free + 1;
            if pg_catalog.jsonb_path_query_array(parts, '$[*] ? (exists (@.column))') <> pg_catalog.jsonb_build_array(v_part) then
                raise exception 'key: ${%} can contain any text, so that two rows could get the same key', v_open
                    using errcode = 'invalid_parameter_value',
                          hint = 'This version takes such a column only when it is the one column of the key.';
            end if;
            v_chars := '';
            v_open := null;
        end if;
    end loop;
end
$$;

revoke all on function freshet.check_key(oid, jsonb) from public;
