-- Refuses a template whose keys could also be those of another sink on the same
-- target: two writers of one key would overwrite each other for ever. `self` is left out, and
-- so are sinks that only remove what they have: until that is done, a worker that finds their
-- keys waits.
create or replace function freshet.check_overlap(parts jsonb, targets text[], self integer)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_other  record;
begin
    select s.name, s.key into v_other
    from freshet.sink s
    where s.targets && check_overlap.targets and s.id is distinct from self and s.state <> 'retiring'
      and freshet.keys_overlap(s.key_parts, parts)
    order by s.id
    limit 1;
    if found then
        raise exception 'key: the sink "%" writes the same keys already, or could: its key is "%"', v_other.name, v_other.key
            using errcode = 'duplicate_object',
                  hint = 'Begin the key with another prefix.';
    end if;
end
$body$;

revoke all on function freshet.check_overlap(jsonb, text[], integer) from public;
