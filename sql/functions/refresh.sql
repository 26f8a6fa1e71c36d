-- Has the entries of one key tuple looked at again: its parts as text, in the order in
-- which the columns stand in the key.
create or replace function freshet.refresh(sink text, variadic key text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink := freshet.find_sink(sink);
    v_tuple  jsonb;
    v_given  integer := pg_catalog.cardinality(key);
begin
    perform freshet.check_owner(v_sink.id);
    if v_given <> pg_catalog.cardinality(v_sink.key_attnums) then
        raise exception 'key: % values for the % columns of the key "%"', v_given, pg_catalog.cardinality(v_sink.key_attnums), v_sink.key
            using errcode = 'invalid_parameter_value';
    end if;
    -- From the order in the template to the order of the tuple.
    select pg_catalog.jsonb_agg(key[t.n] order by t.attnum) into v_tuple
    from (
        select p.attnum, pg_catalog.row_number() over (order by p.first) as n
        from (
            select (e.part ->> 'attnum')::integer as attnum, min(e.n) as first
            from pg_catalog.jsonb_array_elements(v_sink.key_parts) with ordinality as e (part, n)
            where e.part ? 'attnum'
            group by 1
        ) p
    ) t;
    perform freshet.touch_keys(v_sink.id, pg_catalog.jsonb_build_array(v_tuple));
end
$$;

comment on function freshet.refresh(text, variadic text[])
is 'Looks at one entry again: refresh(''users'', ''7''), or the parts of a composite key in the order of the template.';
revoke all on function freshet.refresh(text, variadic text[]) from public;

create or replace function freshet.refresh(sink text, key bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select freshet.refresh(sink, variadic array[key::text])
$$;

comment on function freshet.refresh(text, bigint) is 'Looks at one entry again: refresh(''users'', 7).';
revoke all on function freshet.refresh(text, bigint) from public;
