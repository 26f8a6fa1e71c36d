-- How long a lane has to leave its control key to a copy of this database that has taken it: a
-- server that was restored or forked from this one, or the other way round, and works for the
-- same installation. After a failover the one that is right takes the key at once. Two that
-- both live would take it from each other for ever, and have everything written again each
-- time: hence the pauses, of a second at first and a minute at last.
create or replace function freshet.meet_rival(lease bigint, epoch bigint, rival text)
returns interval
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_after  timestamptz;
begin
    select l.rivalry_at + interval '1 second' * least(60, 2 ^ (l.rivalries - 3)) into v_after
    from freshet.lease l
    where l.id = meet_rival.lease and l.epoch = meet_rival.epoch
      and l.rivalries >= 3 and l.rivalry_at > pg_catalog.clock_timestamp() - interval '10 minutes';
    if v_after is null or v_after <= pg_catalog.clock_timestamp() then
        return interval '0';
    end if;
    update freshet.lease l set rival = meet_rival.rival
    where l.id = meet_rival.lease and l.epoch = meet_rival.epoch and l.rival is distinct from meet_rival.rival;
    return v_after - pg_catalog.clock_timestamp();
end
$$;

revoke all on function freshet.meet_rival(bigint, bigint, text) from public;
