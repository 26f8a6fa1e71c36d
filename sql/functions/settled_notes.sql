-- The notes of partitions that came upon a source's readers, for freshet.mend to take in. One
-- that is being detached is not among them: what is to be done about it is known when it is gone.
create or replace function freshet.settled_notes(source integer)
returns table (relid oid, attached text, stays boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select n.relid, n.attached, i.inhrelid is not null
    from freshet.noted_partition n
    left join pg_catalog.pg_inherits i on i.inhrelid = n.relid and i.xmin::text = n.attached
    where n.source_id = settled_notes.source and i.inhdetachpending is distinct from true;
end
$$;

revoke all on function freshet.settled_notes(integer) from public;
