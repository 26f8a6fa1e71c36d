-- Makes another table the source: the one that has its name now. Columns are found again
-- by name, as `known` has them from before ({attnum: [name, …]}).
create or replace function freshet.rebase(source integer, relation oid, known jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_map      jsonb;   -- old attnum → new one
    v_missing  text;
begin
    select pg_catalog.jsonb_object_agg(k.key, a.attnum) into v_map
    from pg_catalog.jsonb_each(known) as k
    join pg_catalog.pg_attribute a
        on a.attrelid = relation and a.attname = k.value ->> 0 and a.attnum > 0 and not a.attisdropped;
    select pg_catalog.string_agg(coalesce(known -> u.attnum::text ->> 0, '?'), ', ') into v_missing
    from freshet.source s cross join lateral pg_catalog.unnest(s.key_attnums) as u (attnum)
    where s.id = rebase.source and not coalesce(v_map, '{}') ? u.attnum::text;
    if v_missing is not null then
        raise exception 'the table that is called % now has no column %', relation::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column';
    end if;

    update freshet.source s
    set relid = relation,
        key_attnums = (select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by (v_map ->> u.attnum::text)::smallint)
                       from pg_catalog.unnest(s.key_attnums) as u (attnum))
    where s.id = rebase.source;
    update freshet.sink s
    set key_attnums = (select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by (v_map ->> u.attnum::text)::smallint)
                       from pg_catalog.unnest(s.key_attnums) as u (attnum)),
        key_parts = (select pg_catalog.jsonb_agg(
                         case when p.part ? 'attnum' then pg_catalog.jsonb_set(p.part, '{attnum}', v_map -> (p.part ->> 'attnum')) else p.part end
                         order by p.n)
                     from pg_catalog.jsonb_array_elements(s.key_parts) with ordinality as p (part, n)),
        column_attnums = case when s.column_attnums is not null then coalesce((select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by u.n)
                          from pg_catalog.unnest(s.column_attnums) with ordinality as u (attnum, n)
                          where v_map ? u.attnum::text), '{}') end
    where s.source_id = rebase.source and s.state <> 'dropping';
end
$$;

revoke all on function freshet.rebase(integer, oid, jsonb) from public;
