-- What create_sink would make of these arguments, checked as it checks them, without making
-- it; or, with a name alone, what the sink of that name was made of. The target stands for
-- any. A sink that has the name already is taken for an earlier form of this one; without a
-- name nobody asks whose keys these are.
create or replace function freshet.define(
    sink          text,
    source        regclass,
    key           text,
    columns       text[],
    value         text,
    transform     text,
    filter        text,
    expires       interval,
    expires_at    text,
    accept_drift  boolean)
returns freshet.sink
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink;
begin
    if source is null then
        if sink is null then
            raise exception 'source: name a table, or in sink a sink that there is' using errcode = 'invalid_parameter_value';
        elsif coalesce(key, value, transform, filter, expires_at) is not null or columns is not null or expires is not null then
            raise exception 'source: name the table for which the other arguments are' using errcode = 'invalid_parameter_value',
                hint = 'Without them this shows what the sink of that name makes.';
        end if;
        return freshet.find_sink(sink);
    end if;
    perform freshet.check_source(source);
    v_sink := freshet.check_definition(source, key, columns, value, transform, filter, expires, expires_at, accept_drift, case when sink is not null then '{default}'::text[] end,
        (select s.id from freshet.sink s where s.name = define.sink));
    v_sink.id := 0;
    v_sink.name := coalesce(sink, 'preview');
    v_sink.definition := 1;
    v_sink.revision := 1;
    v_sink.source_id := 0;
    v_sink.shards := 1;
    v_sink.state := 'active';
    v_sink.keep_entries := false;
    v_sink.coverage := 'lazy';
    return v_sink;
end
$$;

revoke all on function freshet.define(text, regclass, text, text[], text, text, text, interval, text, boolean) from public;
