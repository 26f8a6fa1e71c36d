-- Whether what capture of a source relies on is not as it was when that was last looked
-- after, whoever altered it.
create or replace function freshet.is_altered(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.fingerprint - 'known' is distinct from freshet.fingerprint(s.id)
            from freshet.source s where s.id = is_altered.source);
end
$$;

revoke all on function freshet.is_altered(integer) from public;
