-- Changes a sink. Null leaves an argument as it is.
create or replace function freshet.alter_sink(
    name              text,
    source            regclass default null,
    key               text default null,
    columns           text[] default null,
    value             text default null,
    transform         text default null,
    filter            text default null,
    expires           interval default null,
    expires_at        text default null,
    targets           text[] default null,
    shards            integer default null,
    capture           text default null,
    backfill          boolean default null,
    adopt             boolean default null,
    accept_drift      boolean default null,
    on_schema_change  text default null,
    max_lag           interval default null,
    max_pending       bigint default null,
    max_rate          integer default null,
    reset             text[] default null)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(name);
begin
    perform freshet.check_owner(v_sink.id);
    perform freshet.refuse_later('source', source is not null);
    perform freshet.refuse_later('key', key is not null);
    perform freshet.refuse_later('columns', columns is not null);
    perform freshet.refuse_later('value', value is not null);
    perform freshet.refuse_later('transform', transform is not null);
    perform freshet.refuse_later('filter', filter is not null);
    perform freshet.refuse_later('expires', expires is not null);
    perform freshet.refuse_later('expires_at', expires_at is not null);
    perform freshet.refuse_later('targets', targets is not null);
    perform freshet.refuse_later('shards', shards is not null);
    perform freshet.refuse_later('capture', capture is not null);
    perform freshet.refuse_later('backfill', backfill is not null);
    perform freshet.refuse_later('accept_drift', accept_drift is not null);
    perform freshet.refuse_later('on_schema_change', on_schema_change is not null);
    perform freshet.refuse_later('max_lag', max_lag is not null);
    perform freshet.refuse_later('max_pending', max_pending is not null);
    perform freshet.refuse_later('max_rate', max_rate is not null);
    perform freshet.refuse_later('reset', reset is not null);

    update freshet.sink s
    set adopt = coalesce(alter_sink.adopt, s.adopt), revision = s.revision + 1
    where s.id = v_sink.id;
end
$$;

comment on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[])
is 'Changes a sink; what is left out stays as it is.';
revoke all on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[]) from public;
