-- Whether two key templates, as freshet.key_tokens lists them, could render the same key:
-- walks both at once, each place of one against each place of the other that some common
-- beginning leads to.
create or replace function freshet.tokens_overlap(one text[], other text[])
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    with recursive
    tokens as (select one as a, other as b),
    reached (i, j) as (
        select 1, 1
        union
        select s.i, s.j
        from reached r
        cross join tokens t
        cross join lateral (select t.a[r.i] as x, t.b[r.j] as y) c
        cross join lateral (
            -- both go on by the same character
            select r.i + 1 as i, r.j + 1 as j where c.x like '=%' and c.x = c.y
            union all
            -- a column may end anywhere
            select r.i + 1, r.j where c.x not like '=%'
            union all
            select r.i, r.j + 1 where c.y not like '=%'
            union all
            -- or take the other's character
            select r.i, r.j + 1 where c.y like '=%' and (c.x = '*' or (c.x like '[%' and pg_catalog.substr(c.y, 2) ~ c.x))
            union all
            select r.i + 1, r.j where c.x like '=%' and (c.y = '*' or (c.y like '[%' and pg_catalog.substr(c.x, 2) ~ c.y))
        ) s
    )
    select exists (
        select from reached r, tokens t
        where r.i > pg_catalog.cardinality(t.a) and r.j > pg_catalog.cardinality(t.b))
$$;

revoke all on function freshet.tokens_overlap(text[], text[]) from public;
