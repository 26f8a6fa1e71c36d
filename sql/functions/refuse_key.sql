-- Says why no index makes the tuples of a key unique: there is one on these columns and
-- it does not count, or there is none.
create or replace function freshet.refuse_key(source oid, key text, columns smallint[])
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_index  record;
begin
    select i.indexrelid::pg_catalog.regclass as name, c.conname, i.indisvalid as valid, c.contype
    into v_index
    from pg_catalog.pg_index i
    left join pg_catalog.pg_constraint c on c.conindid = i.indexrelid and c.contype in ('p', 'u')
    where i.indrelid = source and i.indisunique and i.indpred is null
      and not (i.indisvalid and i.indimmediate)
      and (i.indkey::smallint[])[0:i.indnkeyatts - 1] <@ columns
    order by i.indisvalid desc, i.indisprimary desc, i.indexrelid
    limit 1;
    if v_index.valid then
        raise exception 'key: the constraint % of % is deferrable, and several rows may share one key until it is checked',
            pg_catalog.quote_ident(v_index.conname), source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Make it anew without deferrable: alter table %s drop constraint %I, add %s.',
                      source::pg_catalog.regclass, v_index.conname,
                      (select pg_catalog.split_part(pg_catalog.pg_get_constraintdef(c.oid), ' DEFERRABLE', 1)
                       from pg_catalog.pg_constraint c where c.conrelid = source and c.conname = v_index.conname));
    elsif not v_index.valid then
        raise exception 'key: the unique index % is not valid, so that several rows of % could share one key',
            v_index.name, source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Remove the duplicates that stopped it, then run: reindex index %s.', v_index.name);
    end if;
    raise exception 'key: several rows of % could share one key, for no unique index covers the columns of "%"',
        source::pg_catalog.regclass, key
        using errcode = 'invalid_parameter_value',
              hint = 'Use all columns of the primary key, or create a unique index on the columns of the key'
                  ' (on lower(column) where the key says |lower). Or let rows share an entry: give value, an aggregate over them.';
end
$$;

revoke all on function freshet.refuse_key(oid, text, smallint[]) from public;
