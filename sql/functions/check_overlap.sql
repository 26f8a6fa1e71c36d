-- Refuses a template whose keys could also be those of another sink on the same
-- target: two writers of one key would overwrite each other for ever.
create or replace function freshet.check_overlap(parts jsonb, targets text[])
returns void
language plpgsql
stable
set search_path = ''
as $$
declare
    v_shape  text := freshet.key_shape(parts);
    v_other  text;
begin
    select s.name into v_other
    from freshet.sink s
    where s.targets && check_overlap.targets and freshet.key_shape(s.key_parts) = v_shape
    order by s.id
    limit 1;
    if v_other is not null then
        raise exception 'key: the sink "%" writes the same keys already', v_other
            using errcode = 'duplicate_object',
                  hint = 'Begin the key with another prefix.';
    end if;
end
$$;

revoke all on function freshet.check_overlap(jsonb, text[]) from public;
