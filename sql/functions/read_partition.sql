-- Touches some of the rows that a partition came with, for those fired no trigger: of the
-- first partition that its source has on record as unread, the next blocks. They are not read
-- all at once, and not while anything is locked against writers. A partition whose file is
-- another one by now is read from its beginning.
create or replace function freshet.read_partition(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = off
set enable_tidscan = on
set lock_timeout = '500ms'
as $$
declare
    v_blocks   constant bigint := 1024;   -- 8 MiB
    v_leaf     oid;
    v_mark     jsonb;
    v_file     bigint;
    v_from     bigint;
    v_columns  text;
begin
    select u.key::oid, u.value into v_leaf, v_mark
    from freshet.source s cross join lateral pg_catalog.jsonb_each(s.fingerprint -> 'unread') u
    where s.id = read_partition.source
    order by u.key::bigint
    limit 1;
    if (select c.relkind = 'r' from pg_catalog.pg_class c where c.oid = v_leaf) then
        execute pg_catalog.format('lock table only %s in access share mode', v_leaf::pg_catalog.regclass);
        v_file := pg_catalog.pg_relation_filenode(v_leaf);
        v_from := case when (v_mark ->> 'file')::bigint = v_file then (v_mark ->> 'block')::bigint else 0 end;
        -- By name: a partition may number its columns otherwise.
        select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_columns
        from freshet.source s
        cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
        where s.id = read_partition.source;
        perform freshet.touch(source, pg_catalog.format('select %s from only %s t where t.ctid >= ''(%s,0)'' and t.ctid < ''(%s,0)''',
            v_columns, v_leaf::pg_catalog.regclass, v_from, v_from + v_blocks));
        if pg_catalog.pg_relation_size(v_leaf) > (v_from + v_blocks) * pg_catalog.current_setting('block_size')::integer then
            update freshet.source s
            set fingerprint = pg_catalog.jsonb_set(s.fingerprint, array['unread', v_leaf::text],
                pg_catalog.jsonb_build_object('file', v_file, 'block', v_from + v_blocks))
            where s.id = read_partition.source;
            return;
        end if;
    end if;
    -- Rows that came since then fired triggers.
    update freshet.source s
    set fingerprint = case when (s.fingerprint -> 'unread') - v_leaf::text = '{}' then s.fingerprint - 'unread'
        else s.fingerprint #- array['unread', v_leaf::text] end
    where s.id = read_partition.source;
exception when lock_not_available then
    raise exception 'source: % is in use by a transaction that does not end', v_leaf::pg_catalog.regclass using errcode = 'lock_not_available';
end
$$;

revoke all on function freshet.read_partition(integer) from public;
