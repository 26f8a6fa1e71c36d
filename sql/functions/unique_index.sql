-- The columns, in index order, of the index that makes tuples of these key columns
-- unique: the primary key if it does, else the smallest unique index that covers
-- every row. Null if there is none.
create or replace function freshet.unique_index(source oid, key_attnums smallint[])
returns smallint[]
language sql
stable
set search_path = ''
as $$
    select k.attnums
    from pg_catalog.pg_index i
    cross join lateral (
        select pg_catalog.array_agg(u.attnum order by u.n) as attnums
        from pg_catalog.unnest(i.indkey::smallint[]) with ordinality as u (attnum, n)
        where u.n <= i.indnkeyatts
    ) k
    where i.indrelid = source
      and i.indisunique and i.indisvalid and i.indimmediate
      and i.indpred is null and i.indexprs is null
      and k.attnums <@ key_attnums
    order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
    limit 1
$$;

revoke all on function freshet.unique_index(oid, smallint[]) from public;
