-- Notes that a change could not be captured. Called from inside a failed trigger, which catches
-- whatever goes wrong here too and then says so by a sequence. The source's owner, as whom the trigger
-- runs, needs no right on the table of gaps.
create or replace function freshet.record_gap(source integer, operation text, code text, message text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Bounded: ten thousand unhandled gaps of one source say no more than one does, and one
    -- that has lapsed is enough. Whoever handles them locks out writers first, so that
    -- none relies on a gap that is just going; an old snapshot would still show it. There it is
    -- the table's size that bounds them, and who calls this says so by the sequence from then on.
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed'
        and pg_catalog.pg_relation_size('freshet.capture_gap') > 4 << 20
    then
        raise exception 'there are too many gaps to record one more' using errcode = 'program_limit_exceeded';
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed'
        or (select count(*) from (
            select from freshet.capture_gap g
            where g.source_id = record_gap.source and (record_gap.code <> 'lapsed' or g.code = 'lapsed')
            limit case when record_gap.code = 'lapsed' then 1 else 10000 end
        ) as bounded) < (case when record_gap.code = 'lapsed' then 1 else 10000 end)
    then
        insert into freshet.capture_gap (source_id, operation, code, message)
        values (record_gap.source, record_gap.operation, record_gap.code, record_gap.message);
    end if;
    -- Triggers need not try again for the rest of this transaction. Rolled back to a
    -- savepoint, this goes with the row above.
    perform pg_catalog.set_config('freshet.missed_' || source, pg_catalog.pg_current_xact_id()::text, true);
end
$$;

revoke all on function freshet.record_gap(integer, text, text, text) from public;
