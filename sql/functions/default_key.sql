-- users:${id} for public.users, billing.invoices:${tenant_id}:${id} elsewhere and
-- for composite keys.
create or replace function freshet.default_key(source oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_prefix  text;
    v_key     text;
begin
    select case when n.nspname = 'public' then c.relname else n.nspname || '.' || c.relname end into v_prefix
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;

    -- In a composite key, what can contain any text is percent-encoded: a colon in it
    -- would look like the next column.
    select pg_catalog.string_agg(
        case when i.indnkeyatts > 1 and freshet.key_class(freshet.base_type(a.atttypid), '[]') is null
            then pg_catalog.format('${%s|url}', a.attname)
            else pg_catalog.format('${%s}', a.attname) end, ':' order by k.n)
    into v_key
    from pg_catalog.pg_index i
    cross join lateral pg_catalog.unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts;
    if v_key is null then
        raise exception 'source: % has no primary key to make a key of', source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = 'Give key, a template such as ''users:${email}'' over the columns of a unique index.';
    end if;
    return pg_catalog.replace(v_prefix, '${', '$${') || ':' || v_key;
end
$body$;

revoke all on function freshet.default_key(oid) from public;
