-- Puts partitions on record that nobody has looked after yet, before anything of them is
-- written to a target. freshet.mend takes the notes in.
create or replace function freshet.note_partitions(source integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into freshet.noted_partition (source_id, relid, attached)
    select note_partitions.source, p.relid, p.attached from freshet.unknown_partitions(note_partitions.source) p
    on conflict do nothing
$$;

revoke all on function freshet.note_partitions(integer) from public;
