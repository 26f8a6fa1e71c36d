-- Splits a key template into its parts: {"text": …} for literal text, and
-- {"column": …, "modifiers": […]} for ${column|lower|url}. `$${` is a literal `${`;
-- braces without a dollar sign stay as they are, for Redis hash tags.
create or replace function freshet.parse_key(template text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_rest       text := template;
    v_parts      jsonb := '[]';
    v_text       text := '';
    v_at         integer;
    v_close      integer;
    v_column     text;
    v_modifiers  text[];
begin
    loop
        v_at := pg_catalog.strpos(v_rest, '${');
        exit when v_at = 0;

        if v_at > 1 and pg_catalog.substr(v_rest, v_at - 1, 1) = '$' then
            v_text := v_text || pg_catalog.substr(v_rest, 1, v_at - 2) || '${';
            v_rest := pg_catalog.substr(v_rest, v_at + 2);
            continue;
        end if;

        v_text := v_text || pg_catalog.substr(v_rest, 1, v_at - 1);
        v_rest := pg_catalog.substr(v_rest, v_at + 2);
        v_close := pg_catalog.strpos(v_rest, '}');
        if v_close = 0 then
            raise exception 'key: the template "%" has a "${" without its "}"', template
                using errcode = 'invalid_parameter_value',
                      hint = 'Write ${column} for a column, or $${ for a literal ${.';
        end if;
        v_modifiers := pg_catalog.string_to_array(pg_catalog.substr(v_rest, 1, v_close - 1), '|');
        v_column := v_modifiers[1];
        v_modifiers := v_modifiers[2:];
        v_rest := pg_catalog.substr(v_rest, v_close + 1);
        if coalesce(v_column, '') = '' then
            raise exception 'key: the template "%" names no column between "${" and "}"', template
                using errcode = 'invalid_parameter_value';
        end if;
        if pg_catalog.array_to_string(v_modifiers, '|') <> all (array['', 'lower', 'url', 'lower|url']) then
            raise exception 'key: ${%} has the modifiers "%"', v_column, pg_catalog.array_to_string(v_modifiers, '|')
                using errcode = 'invalid_parameter_value',
                      hint = 'There are |lower and |url, and both in the order |lower|url.';
        end if;

        if v_text <> '' then
            v_parts := v_parts || pg_catalog.jsonb_build_object('text', v_text);
            v_text := '';
        end if;
        v_parts := v_parts || pg_catalog.jsonb_build_object('column', v_column, 'modifiers', v_modifiers);
    end loop;

    v_text := v_text || v_rest;
    if v_text <> '' then
        v_parts := v_parts || pg_catalog.jsonb_build_object('text', v_text);
    end if;
    return v_parts;
end
$body$;

revoke all on function freshet.parse_key(text) from public;
