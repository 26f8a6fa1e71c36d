-- Makes the function through which workers look after a source's capture. It has the
-- rights of whoever made it, for tables and triggers are not the workers' own; and it does
-- nothing but what freshet.keep does for this one source.
create or replace function freshet.make_keeper(source integer)
returns void
language plpgsql
set search_path = ''
as $body$
declare
    v_role    text;
    v_keeper  text := pg_catalog.format('freshet.%I', 'keep_' || source);
begin
    -- Another member of the owning role has made it: it serves as well.
    if pg_catalog.to_regprocedure(v_keeper || '(text, integer)') is not null then
        return;
    end if;
    execute pg_catalog.format($sql$
create function %s(task text, segment integer) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    return freshet.keep(%s, task, segment);
end
$$
$sql$, v_keeper, source);
    execute pg_catalog.format('revoke all on function %s(text, integer) from public', v_keeper);
    foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
        if pg_catalog.to_regrole(v_role) is not null then
            execute pg_catalog.format('grant execute on function %s(text, integer) to %I', v_keeper, v_role);
        end if;
    end loop;
end
$body$;

revoke all on function freshet.make_keeper(integer) from public;
