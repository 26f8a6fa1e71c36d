-- The part of a trigger function that writes what comes after the first seventeen rows of a
-- transition table: the tuples of many rows to each row of the change table, as lists, which
-- costs a third of a row for each. Of each key column are given its name in the change table,
-- what it is called in the source, its type in the change table, and how long its values are:
-- null if they have no one length, or may be null.
--
-- A row gets no larger than what Postgres keeps in one piece. Where all tuples are of one length,
-- one list of them is cut to pieces, for as many rows as there may be in memory at once. And with
-- `others`, the rows of which are the same ones in the same order, v_moved is true afterwards if
-- any tuple is another there; it stays null where there were too many to compare.
create or replace function freshet.pack_rows(
    segment   text,
    op        text,
    relation  text,
    names     text[],
    columns   text[],
    types     text[],
    lengths   integer[],
    others    text default null)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    c_bytes    constant integer := 1800;
    c_most     constant integer := 500000;
    v_columns  text;   -- freshet_new."id"::bigint as k1, …
    v_other    text;   -- the same of the others
    v_size     text;   -- of a tuple
    v_lists    text;   -- k1s, …
    v_make     text;   -- array_agg(r.k1) as k1s, …
    v_cut      text;   -- a.k1s[…], …
    v_pieces   integer;
    v_group    text;
    v_rest     text;
begin
    select pg_catalog.string_agg(pg_catalog.format('%s.%s::%s as %s', relation, c.source, c.type, c.name), ', '),
           pg_catalog.string_agg(pg_catalog.format('%s.%s::%s as %s', others, c.source, c.type, c.name), ', '),
           pg_catalog.string_agg(case when c.length is not null then c.length::text
               else pg_catalog.format('coalesce(pg_catalog.pg_column_size(%s.%s), 0) + 8', relation, c.source) end, ' + '),
           case when pg_catalog.count(c.length) = pg_catalog.count(*) then greatest(least(c_bytes / sum(c.length), 128), 1) end
    into v_columns, v_other, v_size, v_pieces
    from rows from (pg_catalog.unnest(names), pg_catalog.unnest(columns), pg_catalog.unnest(types), pg_catalog.unnest(lengths))
        as c (name, source, type, length);
    select pg_catalog.string_agg(n || 's', ', '),
           pg_catalog.string_agg(pg_catalog.format('pg_catalog.array_agg(r.%1$s) as %1$ss', n), ', '),
           pg_catalog.string_agg(pg_catalog.format('a.%1$ss[%2$s * p - %2$s + 1 : %2$s * p]', n, v_pieces), ', ')
    into v_lists, v_make, v_cut
    from pg_catalog.unnest(names) as n;
    v_group := case when v_pieces is null then pg_catalog.format('sum(%s) over (rows unbounded preceding) / %s', v_size, c_bytes)
        else pg_catalog.format('(pg_catalog.row_number() over () - 1) / %s', v_pieces) end;

    v_rest := pg_catalog.format($sql$
                insert into %1$s (op, tuples, %2$s)
                select %3$L, a.* from (
                    select count(*), %4$s from (select %5$s, %6$s as piece from %7$s offset %8$s) as r group by r.piece order by r.piece) as a;$sql$,
        segment, v_lists, op, v_make, v_columns, v_group, relation, case when v_pieces is null then 17 else 17 + c_most end);
    if v_pieces is null then
        return v_rest;
    end if;
    return pg_catalog.format($sql$
                with one as materialized (
                    select a.*, pg_catalog.cardinality(a.%13$ss) as n, %11$s as moved from (select %6$s from (select %7$s from %8$s offset 17 limit %9$s) as r) as a%12$s
                ), written as (
                    insert into %1$s (op, tuples, %2$s)
                    select %3$L, least(a.n - %4$s * (p - 1), %4$s), %5$s
                    from one as a cross join pg_catalog.generate_series(1, (a.n + %4$s - 1) / %4$s) as p
                )
                select a.n, a.moved into v_packed, v_moved from one as a;
                if v_packed >= %9$s then
                    v_moved := null;%10$s
                end if;$sql$,
        segment, v_lists, op, v_pieces, v_cut, v_make, v_columns, relation, c_most, v_rest,
        case when others is null then 'null::boolean' else pg_catalog.format('pg_catalog.record_image_ne(row(%s), row(%s))',
            (select pg_catalog.string_agg('a.' || n || 's', ', ') from pg_catalog.unnest(names) as n),
            (select pg_catalog.string_agg('b.' || n || 's', ', ') from pg_catalog.unnest(names) as n)) end,
        case when others is null then '' else pg_catalog.format(
            ' cross join (select %s from (select %s from %s offset 17 limit %s) as r) as b', v_make, v_other, others, c_most) end,
        names[1]);
end
$$;

revoke all on function freshet.pack_rows(text, text, text, text[], text[], text[], integer[], text) from public;
