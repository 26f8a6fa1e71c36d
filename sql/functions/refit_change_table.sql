-- Drops a source's change table if a key column has got another type than it was made
-- for, or if its columns are those of another table. What is lost with it is covered by the re-warm of whoever calls this; lanes that
-- stand before it begin again at the new floor.
create or replace function freshet.refit_change_table(source integer, anyway boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_changes  text := pg_catalog.format('freshet.%I', 'changes_' || source);
begin
    if not anyway and pg_catalog.to_regclass(v_changes) is not null and not exists (
        select from freshet.source s
        cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum and not a.attisdropped
        join pg_catalog.pg_attribute c on c.attrelid = pg_catalog.to_regclass(v_changes) and c.attname = 'k' || k.attnum
        where s.id = refit_change_table.source
          and (c.atttypid <> freshet.change_type(a.atttypid)::pg_catalog.regtype or c.attcollation <> a.attcollation))
    then
        return;
    end if;
    execute pg_catalog.format('drop table if exists %s cascade', v_changes);
    -- A segment that was dropped by itself is only made again.
    delete from freshet.segment g where g.source_id = refit_change_table.source;
    update freshet.source s set segment = s.segment + 1, floor = freshet.cursor_now() where s.id = refit_change_table.source;
end
$$;

revoke all on function freshet.refit_change_table(integer, boolean) from public;
