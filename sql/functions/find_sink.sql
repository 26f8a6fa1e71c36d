-- The sink of that name, or an error that lists the names there are.
create or replace function freshet.find_sink(name text)
returns freshet.sink
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink;
begin
    select * into v_sink from freshet.sink s where s.name = find_sink.name and s.state not in ('retiring', 'dropping');
    if not found then
        raise exception 'sink: there is no sink "%"', name
            using errcode = 'undefined_object',
                  hint = (select coalesce('There are: ' || pg_catalog.string_agg(s.name, ', ' order by s.name) || '.',
                                          'Create one with freshet.create_sink.')
                          from freshet.sink s where s.state not in ('retiring', 'dropping'));
    end if;
    return v_sink;
end
$$;

revoke all on function freshet.find_sink(text) from public;
