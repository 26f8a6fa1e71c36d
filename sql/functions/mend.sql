-- Sets capture of a source right again, and has its sinks warmed and swept for what it may
-- have missed, all in one transaction. Returns what was the matter, null if nothing was
-- or another worker is at it. Where it begins with "could not be mended: " or "locked: " nothing was mended.
--
-- It waits for nobody for long. A migration may have a table in hand and then change a sink,
-- which waits for this; and where it gives up, it gives back what it has locked itself before
-- it tries again.
create or replace function freshet.mend(source integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    return freshet.mend_source(source);
exception when lock_not_available then
    -- That is no fault, and nothing to wait long for: it is over when somebody else is done.
    update freshet.source s
    set mend_error = sqlerrm, mend_after = pg_catalog.clock_timestamp() + interval '0.5 seconds'
    where s.id = (select l.id from freshet.source l where l.id = mend.source for no key update skip locked);
    return 'locked: ' || sqlerrm;
when others then
    update freshet.source s
    set mend_error = sqlerrm, mend_tries = s.mend_tries + 1,
        mend_after = pg_catalog.clock_timestamp() + least(300, power(2, least(s.mend_tries, 10))) * interval '1 second'
    where s.id = (select l.id from freshet.source l where l.id = mend.source for no key update skip locked);
    return 'could not be mended: ' || sqlerrm;
end
$$;

revoke all on function freshet.mend(integer) from public;
