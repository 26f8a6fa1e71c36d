-- Writes the entry of every row of a sink's source. Returns the number of the
-- backfill, as in the view backfills.
create or replace function freshet.backfill(sink text, filter text default null, rate integer default null)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_sink  freshet.sink;
begin
    perform freshet.refuse_later('filter', filter is not null);
    perform freshet.refuse_later('rate', rate is not null);
    v_sink := freshet.find_sink(sink);
    return freshet.request_backfill(v_sink.id, 'user');
end
$$;

comment on function freshet.backfill(text, text, integer)
is 'Writes the entry of every row of the sink''s source. Returns the number of the backfill, as in the view backfills.';
revoke all on function freshet.backfill(text, text, integer) from public;
