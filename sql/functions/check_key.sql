-- Refuses templates in which two tuples could render the same key. One column may
-- contain any text. What stands before it must be told from what follows it, reading
-- from the left; what stands after it from what precedes it, reading from the right.
create or replace function freshet.check_key(parts jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_count   integer := pg_catalog.jsonb_array_length(parts);
    v_free    integer;      -- the part that can contain any text
    v_part    jsonb;
    v_next    jsonb;
    v_class   text;
    v_touch   text;         -- the character of the neighbour that has to end the column
    v_n       integer;
begin
    for v_n in 0 .. v_count - 1 loop
        v_part := parts -> v_n;
        continue when v_part ? 'text' or freshet.key_class((v_part ->> 'type')::oid, v_part -> 'modifiers') is not null;
        if v_free is not null then
            raise exception 'key: ${%} and ${%} can both contain any text, so that two rows could get the same key',
                parts -> v_free ->> 'column', v_part ->> 'column'
                using errcode = 'invalid_parameter_value',
                      hint = pg_catalog.format('Percent-encode one of them: ${%s|url}.', parts -> v_free ->> 'column');
        end if;
        v_free := v_n;
    end loop;

    for v_n in 0 .. v_count - 1 loop
        v_part := parts -> v_n;
        continue when v_part ? 'text' or v_n = v_free;
        v_class := freshet.key_class((v_part ->> 'type')::oid, v_part -> 'modifiers');
        if v_n < coalesce(v_free, v_count) then
            continue when v_n = v_count - 1;
            v_next := parts -> (v_n + 1);
            v_touch := pg_catalog.left(v_next ->> 'text', 1);
        else
            v_next := parts -> (v_n - 1);
            v_touch := pg_catalog.right(v_next ->> 'text', 1);
        end if;
        if v_touch is null or v_touch ~ ('[' || v_class || ']') then
            raise exception 'key: two rows could get the same key, for it does not show where ${%} begins or ends',
                v_part ->> 'column'
                using errcode = 'invalid_parameter_value',
                      hint = 'Put a character that it cannot contain, such as a colon, between it and its neighbour.';
        end if;
    end loop;
end
$body$;

revoke all on function freshet.check_key(jsonb) from public;
