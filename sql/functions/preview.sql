-- Shows what the first rows of a source in key order would become, for a sink or for the
-- arguments of one that does not exist yet; with `keys`, what those entries would be. It
-- writes nothing. Of columns it shows what to_jsonb makes of them, which is equal and can be
-- spelled in another way; with freshet preview a worker's own code does it.
create or replace function freshet.preview(
    sink          text default null,
    source        regclass default null,
    key           text default null,
    columns       text[] default null,
    value         text default null,
    transform     text default null,
    filter        text default null,
    expires       interval default null,
    expires_at    text default null,
    accept_drift  boolean default false,
    keys          text[] default null,
    rows          integer default 10)
returns table (entry text, result text, content text, until timestamptz, error text)
language plpgsql
set search_path = pg_catalog, pg_temp
-- As workers render.
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
set lc_monetary = 'C'
set lc_numeric = 'C'
set lc_time = 'C'
set timezone_abbreviations = 'Default'
set xmlbinary = 'base64'
as $$
declare
    v_sink    freshet.sink;
    v_class   record;
    v_key     text;
    v_same    text;
    v_order   text;
    v_made    text;
    v_path    text := pg_catalog.current_setting('search_path');
    v_row     record;
    v_rows    text;
    v_one     text;
    v_found   bigint;
begin
    if rows is null or rows not between 1 and 1000 then
        raise exception 'rows: % is not between 1 and 1000', rows using errcode = 'invalid_parameter_value';
    end if;
    v_sink := freshet.define(sink, source, key, columns, value, transform, filter, expires, expires_at, accept_drift);
    if v_sink.transform is not null then
        raise exception 'transform: workers make these entries, not Postgres; the command freshet preview shows them'
            using errcode = 'feature_not_supported';
    end if;
    if source is null then
        select o.relid into source from freshet.source o where o.id = v_sink.source_id;
    end if;
    select n.nspname as schema, c.relname as name into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = preview.source;
    if not found then
        raise exception 'sink: the source of "%" is gone', sink using errcode = 'object_not_in_prerequisite_state';
    end if;

    select pg_catalog.string_agg(
        case when p.part ? 'column' then
            pg_catalog.format(case when p.part -> 'modifiers' ? 'url' then 'freshet.percent_encode(%s)' else '%s' end,
                pg_catalog.format(case when p.part -> 'modifiers' ? 'lower' then 'pg_catalog.lower(%I.%I::text)' else '%I.%I::text' end, v_class.name, a.attname))
        else pg_catalog.quote_literal(p.part ->> 'text') end, ' || ' order by p.n)
    into v_key
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) with ordinality as p (part, n)
    left join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = (p.part ->> 'attnum')::smallint;
    select pg_catalog.string_agg(
        case when o.attnum = any (v_sink.folded_attnums) then pg_catalog.format('pg_catalog.lower(%I.%I)', v_class.name, a.attname)
            else pg_catalog.format('%I.%I', v_class.name, a.attname) end, ', ' order by o.n)
    into v_order
    from pg_catalog.unnest(v_sink.order_attnums) with ordinality as o (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = o.attnum;

    -- The rows, one for each entry.
    v_rows := pg_catalog.format(
        'select %1$I.tableoid as of, %1$I.ctid as at, %3$s as key from %2$I.%1$I as %1$I where %4$s is not null',
        v_class.name, v_class.schema, v_key, v_key);
    if keys is not null then
        v_rows := v_rows || pg_catalog.format(' and %s = any (%L::text[])', v_key, keys);
    end if;
    if v_sink.grouped then
        v_rows := pg_catalog.format('select distinct on (%s) %s', v_order || ', ' || v_key, pg_catalog.substr(v_rows, 8))
            || pg_catalog.format(' order by %s, %s', v_order, v_key);
    else
        v_rows := v_rows || pg_catalog.format(' order by %s', v_order);
    end if;
    v_rows := v_rows || pg_catalog.format(' limit %s', rows);

    -- What one makes. $1 and $2 say which row it is; all those of its group have its key.
    select pg_catalog.string_agg(pg_catalog.format(
        '%1$s = (select %1$s from %2$I.%3$I as %3$I where %3$I.tableoid = $1 and %3$I.ctid = $2)',
        case when u.attnum = any (v_sink.folded_attnums) then pg_catalog.format('pg_catalog.lower(%I.%I)', v_class.name, a.attname)
            else pg_catalog.format('%I.%I', v_class.name, a.attname) end, v_class.schema, v_class.name), ' and ' order by u.n)
        || pg_catalog.format(' and %1$s = $3', v_key)
    into v_same
    from pg_catalog.unnest(v_sink.key_attnums) with ordinality as u (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = u.attnum;
    if not v_sink.grouped then
        v_same := pg_catalog.format('%1$I.tableoid = $1 and %1$I.ctid = $2', v_class.name);
    end if;
    if v_sink.value is not null then
        v_made := E'((\n' || v_sink.value || E'\n))::text';
    else
        select pg_catalog.format('(select pg_catalog.to_jsonb(freshet_c)::text from (select %s) as freshet_c)',
            pg_catalog.string_agg(pg_catalog.format('%I.%I', v_class.name, a.attname), ', ' order by u.n, a.attnum))
        into v_made
        from pg_catalog.pg_attribute a
        left join pg_catalog.unnest(v_sink.column_attnums) with ordinality as u (attnum, n) on u.attnum = a.attnum
        where a.attrelid = preview.source and a.attnum > 0 and not a.attisdropped and (v_sink.column_attnums is null or u.n is not null);
    end if;
    v_one := pg_catalog.format(E'select %s, %s from %I.%I as %I where %s and ((\n%s\n)) is true%s',
        v_made, coalesce(E'((\n' || v_sink.expires_at || E'\n))::pg_catalog.timestamptz', 'null::pg_catalog.timestamptz'),
        v_class.schema, v_class.name, v_class.name, v_same, coalesce(v_sink.filter, 'true'),
        case when v_sink.grouped then ' having count(*) > 0' else '' end);

    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.schema), true);
    for v_row in execute v_rows loop
        entry := v_row.key;
        result := 'filtered';
        content := null;
        until := null;
        error := null;
        begin
            execute v_one into content, until using v_row.of, v_row.at, v_row.key;
            get diagnostics v_found = row_count;
            if content is null then
                -- No row came, or its value is null.
                result := case when v_found > 0 then 'null' else 'filtered' end;
                until := null;
            elsif until <= pg_catalog.statement_timestamp() then
                result := 'expired';
                content := null;
                until := null;
            else
                result := 'entry';
                if until is null and v_sink.expires is not null then
                    until := pg_catalog.statement_timestamp() + v_sink.expires;
                elsif not pg_catalog.isfinite(until) then
                    until := null;
                end if;
            end if;
        exception
            -- What workers take for an entry's own failure.
            when data_exception or integrity_constraint_violation or cardinality_violation or raise_exception
                or no_data_found or too_many_rows then
                result := 'error';
                content := null;
                until := null;
                error := sqlerrm;
        end;
        return next;
    end loop;
    perform pg_catalog.set_config('search_path', v_path, true);
end
$$;

comment on function freshet.preview(text, regclass, text, text[], text, text, text, interval, text, boolean, text[], integer)
is 'Shows what rows would become, for a sink or for the arguments of one that does not exist yet. Writes nothing.';
revoke all on function freshet.preview(text, regclass, text, text[], text, text, text, interval, text, boolean, text[], integer) from public;
