-- The columns, in index order, of the index that a backfill walks. Where each row is to
-- have a key of its own, it is the one that makes tuples of the key unique: the primary key
-- if it does, else the smallest unique index that covers every row. Where rows may share a
-- key, it is one that begins with all columns of the key. Null if there is none.
--
-- A column that the key folds with |lower counts when the index is on lower(column), or
-- when the type itself ignores case. Where the column's collation takes different texts for
-- equal, the index must go by the same one: rows that the index tells apart and the column
-- does not could not be walked in order.
create or replace function freshet.walk_index(source oid, parts jsonb, grouped boolean)
returns smallint[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with terms as (
        select distinct a.attnum, a.attname,
               p.part -> 'modifiers' ? 'lower' as folded,
               freshet.ignores_case(source, a.attnum) as ignores_case,
               case when not c.collisdeterministic then c.oid end as collated
        from pg_catalog.jsonb_array_elements(parts) as p (part)
        join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = p.part ->> 'column'
        left join pg_catalog.pg_collation c on c.oid = a.attcollation
    )
    select k.attnums
    from pg_catalog.pg_index i
    cross join lateral (
        select pg_catalog.array_agg(t.attnum order by u.n) as attnums, count(*) = count(t.attnum) as covered
        from pg_catalog.unnest(i.indkey::smallint[]) with ordinality as u (attnum, n)
        left join terms t on coalesce(t.collated = i.indcollation[u.n - 1], true) and
            case when u.attnum > 0
                then t.attnum = u.attnum and (not t.folded or t.ignores_case)
                else t.folded and not t.ignores_case and pg_catalog.pg_get_indexdef(i.indexrelid, u.n::integer, false) in (
                    pg_catalog.format('lower(%I)', t.attname), pg_catalog.format('lower((%I)::text)', t.attname))
            end
        where u.n <= case when grouped then (select count(*) from terms) else i.indnkeyatts end
    ) k
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indrelid = source
      and i.indisvalid and i.indpred is null
      and (grouped and i.indnkeyatts >= (select count(*) from terms) or i.indisunique and i.indimmediate)
      and k.covered
    order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
    limit 1
$$;

revoke all on function freshet.walk_index(oid, jsonb, boolean) from public;
