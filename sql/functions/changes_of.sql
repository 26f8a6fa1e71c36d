-- The newest captured changes of a source, with their key columns by name.
create or replace function freshet.changes_of(source integer, newest integer)
returns table (xid xid8, id bigint, at timestamptz, op "char", key jsonb)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_key  text;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        return;
    end if;
    select pg_catalog.string_agg(pg_catalog.format('%L, t.k%s', a.attname, k.attnum), ', ' order by k.attnum) into v_key
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
    where s.id = changes_of.source;
    return query execute pg_catalog.format(
        'select c.xid, c.id, c.at, c.op, case when c.op <> ''t'' then pg_catalog.jsonb_build_object(%s) end '
        'from (select * from freshet.%I c order by c.xid desc, c.id desc limit $1) as c cross join lateral %s as t '
        'order by c.xid desc, c.id desc limit $1', v_key, 'changes_' || source, freshet.tuples_of(source))
    using newest;
end
$$;

revoke all on function freshet.changes_of(integer, integer) from public;
