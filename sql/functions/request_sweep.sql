-- Asks for a sweep of a sink, on all its targets, that runs once its lanes have passed `after`.
create or replace function freshet.request_sweep(sink integer, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  text;
begin
    for v_target in
        select t.target from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = request_sweep.sink
    loop
        perform freshet.sweep_target(request_sweep.sink, v_target, after);
    end loop;
end
$$;

revoke all on function freshet.request_sweep(integer, pg_snapshot) from public;
