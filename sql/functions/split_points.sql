-- Tuples of a sink's order columns that cut what is in (lower, upper] into about `pieces`
-- ranges with as many rows each, in order. They are drawn from a sample of the source's
-- blocks, so it does not matter what the key is made of or how it is distributed.
create or replace function freshet.split_points(sink integer, pieces integer, lower text[], upper text[])
returns setof text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_relid    oid;
    v_blocks   double precision;
    v_terms    text[] := freshet.order_terms(sink, 't', false);
    v_texts    text;
    v_present  text;
begin
    if pieces < 2 then
        return;
    end if;
    select o.relid into strict v_relid
    from freshet.sink s join freshet.source o on o.id = s.source_id
    where s.id = split_points.sink;
    select greatest(1, coalesce(sum(pg_catalog.pg_relation_size(c.relid)), 0) / pg_catalog.current_setting('block_size')::integer)
    into v_blocks
    from (select v_relid as relid
          union all select p.relid from freshet.partitions_of(v_relid) p) c;
    select pg_catalog.string_agg(pg_catalog.format('(%s)::pg_catalog.text', t), ', '),
           pg_catalog.string_agg(pg_catalog.format('%s is not null', t), ' and ')
    into v_texts, v_present
    from pg_catalog.unnest(v_terms) as t;

    return query execute pg_catalog.format(
        'select distinct on (c.piece) c.point from ('
        'select array[%1$s] as point, pg_catalog.ntile($1) over w as piece, pg_catalog.row_number() over w as n '
        'from %2$s as t tablesample system ($2) where %3$s and %4$s '
        'window w as (order by %5$s)) c where c.piece > 1 order by c.piece, c.n',
        v_texts, v_relid::pg_catalog.regclass, v_present, freshet.within(sink, v_terms, lower, upper),
        pg_catalog.array_to_string(v_terms, ', '))
    using pieces, least(100, 100 * greatest(300, 20 * pieces) / v_blocks);
end
$$;

revoke all on function freshet.split_points(integer, integer, text[], text[]) from public;
