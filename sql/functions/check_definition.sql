-- Checks what says which entries a sink has and what they are, and returns it as far as it
-- follows from the arguments: a row of freshet.sink that is not one yet. `self` is the sink
-- that is to be changed, null for a new one. Without targets it shares its keys with nobody.
create or replace function freshet.check_definition(
    source        oid,
    key           text,
    columns       text[],
    value         text,
    transform     text,
    filter        text,
    expires       interval,
    expires_at    text,
    accept_drift  boolean,
    targets       text[],
    self          integer)
returns freshet.sink
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink        freshet.sink;
    v_missing     text;
    v_what        text;
    v_drifts      boolean;
    v_expression  record;
    v_pure        record;
begin
    if accept_drift is null then
        raise exception 'accept_drift: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    if columns is not null and value is not null then
        raise exception 'columns: value says what the entry is already' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if transform is not null and value is not null then
        raise exception 'transform: value says what the entry is already' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if pg_catalog.btrim(transform, E' \t\n\r') = '' then
        raise exception 'transform: it is empty' using errcode = 'invalid_parameter_value',
            hint = 'Leave transform out, or give an expression such as {id: record.id, name: upper(record.name)}.';
    end if;
    if transform like 'go:%' and transform !~ '^go:[a-z][a-z0-9_]{0,47}$' then
        raise exception 'transform: "%" names no function of Go', transform using errcode = 'invalid_parameter_value',
            hint = 'Write go:name, with the name that a worker registers; names begin with a lower-case letter and go on with up to 47 lower-case letters, digits and underscores.';
    end if;
    if expires <> interval '0' and expires_at is not null then
        raise exception 'expires: expires_at says already when an entry expires' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if expires < interval '0' then
        raise exception 'expires: % is negative', expires using errcode = 'invalid_parameter_value',
            hint = 'Give how long an entry lives after it was written; leave expires out for ever.';
    end if;
    if expires > interval '200 years' then
        raise exception 'expires: % is more than 200 years', expires using errcode = 'invalid_parameter_value',
            hint = 'Leave expires out for entries that live for ever.';
    end if;
    expires := nullif(expires, interval '0');
    if targets is not null then
        perform freshet.check_targets(targets);
    end if;

    -- The key.
    if key is null then
        key := freshet.default_key(source);
    end if;
    v_sink.key_parts := freshet.parse_key(key);
    select pg_catalog.string_agg(pg_catalog.format('"%s"', p ->> 'column'), ', ') into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = p ->> 'column' and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'key: % has no column %', source::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    select pg_catalog.array_agg(distinct a.attnum order by a.attnum) into v_sink.key_attnums
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = p ->> 'column';
    if v_sink.key_attnums is null then
        raise exception 'key: the template "%" names no column, so all rows would share one key', key
            using errcode = 'invalid_parameter_value', hint = 'Write ${column} for a column of the source.';
    end if;
    v_sink.key_parts := freshet.key_by_attnum(source, v_sink.key_parts);
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column' and freshet.prints_names((p ->> 'type')::oid);
    if v_missing is not null then
        raise exception 'key: ${%} prints names, so its text can change when no row does', v_missing
            using errcode = 'invalid_parameter_value',
                  hint = 'Use a column of type oid or text.';
    end if;
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column'
    group by p ->> 'column'
    having count(distinct p -> 'modifiers' ? 'lower') > 1;
    if v_missing is not null then
        raise exception 'key: ${%} stands there with |lower and without', v_missing
            using errcode = 'invalid_parameter_value';
    end if;
    -- An index that makes a key unique later does not make another value of an aggregate.
    v_sink.grouped := exists (
        select from freshet.sink s join freshet.source o on o.id = s.source_id
        where s.id = self and s.grouped and s.value = check_definition.value
          and o.relid = check_definition.source and freshet.named_key(o.relid, s.key_parts) = v_sink.key_parts);
    if not v_sink.grouped then
        v_sink.order_attnums := freshet.walk_index(source, v_sink.key_parts, false);
        if v_sink.order_attnums is null and value is null then
            perform freshet.refuse_key(source, key, v_sink.key_attnums);
        end if;
        v_sink.grouped := v_sink.order_attnums is null;
    end if;
    if v_sink.grouped then
        v_sink.order_attnums := freshet.walk_index(source, v_sink.key_parts, true);
        if v_sink.order_attnums is null then
            perform freshet.refuse_group(source, key, v_sink.key_parts);
        end if;
    end if;
    perform freshet.check_key(v_sink.key_parts);
    perform freshet.check_overlap(v_sink.key_parts, targets, self);

    -- The value: the columns there are now, so that a later one does not leak. An expression
    -- can use any.
    select pg_catalog.string_agg(pg_catalog.format('"%s"', c.name), ', ') into v_missing
    from pg_catalog.unnest(columns) as c (name)
    where columns <> '{*}' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'columns: % has no column %', source::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    if columns = '{*}' or value is not null then
        v_sink.column_attnums := null;
    elsif columns is null then
        select pg_catalog.array_agg(a.attnum order by a.attnum) into v_sink.column_attnums
        from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attnum > 0 and not a.attisdropped;
    else
        select pg_catalog.array_agg(a.attnum order by c.n) into v_sink.column_attnums
        from pg_catalog.unnest(columns) with ordinality as c (name, n)
        join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = c.name;
        if v_sink.column_attnums is null then
            raise exception 'columns: the list is empty' using errcode = 'invalid_parameter_value',
                hint = case when self is null then 'Leave columns out to take all of them.'
                    else 'Give columns => with those that an entry is to have, or reset => ''{columns}'' for all that there are now.' end;
        end if;
        if (select count(distinct c) < count(*) from pg_catalog.unnest(columns) as c) then
            raise exception 'columns: a column is named twice' using errcode = 'duplicate_column';
        end if;
    end if;

    v_what := case when v_sink.grouped then 'group' else 'row' end;
    v_drifts := accept_drift or expires is not null or expires_at is not null;
    perform freshet.check_expression(source, 'filter', filter, 'condition');
    v_sink.value_type := freshet.check_expression(source, 'value', value, v_what);
    perform freshet.check_moment(source, expires_at, v_what);
    v_sink.reads := '{}';
    v_sink.calls := '[]';
    for v_expression in
        select e.argument, e.sql, e.what
        from (values ('filter', filter, 'condition'), ('value', value, v_what), ('expires_at', expires_at, v_what)) as e (argument, sql, what)
    loop
        v_pure := freshet.check_purity(source, v_expression.argument, v_expression.sql, v_expression.what, v_drifts);
        v_sink.reads := v_sink.reads || v_pure.reads;
        v_sink.calls := v_sink.calls || v_pure.calls;
    end loop;
    select coalesce(pg_catalog.array_agg(distinct o), '{}') into v_sink.reads from pg_catalog.unnest(v_sink.reads) as o;

    v_sink.key := key;
    v_sink.folded_attnums := freshet.folded(source, v_sink.key_parts);
    v_sink.value := value;
    v_sink.transform := transform;
    v_sink.filter := filter;
    v_sink.expires := expires;
    v_sink.expires_at := expires_at;
    v_sink.accept_drift := accept_drift;
    v_sink.targets := targets;
    return v_sink;
end
$$;

revoke all on function freshet.check_definition(oid, text, text[], text, text, text, interval, text, boolean, text[], integer) from public;
