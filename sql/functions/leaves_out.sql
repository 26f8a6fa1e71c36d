-- Whether a call of a function within a parsed expression leaves arguments to their defaults.
-- Those are put in place when the call is planned, and not in the tree before.
create or replace function freshet.leaves_out(tree text, function oid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_here   text := ':funcid ' || function || ' ';
    v_rest   text := tree;
    v_token  text;
    v_depth  integer;
    v_given  integer;
begin
    while pg_catalog.strpos(v_rest, v_here) > 0 loop
        v_rest := pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, v_here) + pg_catalog.length(v_here));
        v_depth := 0;
        v_given := 0;
        if pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, ':args ') + 6, 1) = '(' then
            -- A list of nodes: ({…} {…}). A backslash stands before what is part of a name.
            for v_token in
                select m[1]
                from pg_catalog.regexp_matches(pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, ':args ') + 6), E'(\\\\.|[(){}])', 'g') as m
            loop
                v_depth := v_depth + case when v_token in ('(', '{') then 1 when v_token in (')', '}') then -1 else 0 end;
                exit when v_depth = 0;
                if v_token = '{' and v_depth = 2 then
                    v_given := v_given + 1;
                end if;
            end loop;
        end if;
        if v_given < (select p.pronargs from pg_catalog.pg_proc p where p.oid = function) then
            return true;
        end if;
    end loop;
    return false;
end
$$;

revoke all on function freshet.leaves_out(text, oid) from public;
