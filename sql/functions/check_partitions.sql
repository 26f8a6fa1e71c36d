-- Refuses a read of a partitioned source that has a partition of which nothing is on record
-- yet. One that came and went between two looks after the source would leave entries without
-- a row that nobody knows of. Who is refused calls freshet.note_partitions and reads again.
-- Called in the statement that reads the source, which keeps its partitions from being
-- dropped meanwhile. Returns an empty text.
create or replace function freshet.check_partitions(source integer)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from freshet.unknown_partitions(source)) then
        raise exception 'source: a partition of source % is not on record yet', source
            using errcode = 'FR001';
    end if;
    return '';
end
$$;

revoke all on function freshet.check_partitions(integer) from public;
