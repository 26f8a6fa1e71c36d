-- Notes that a change could not be captured. Called from inside a failed trigger:
-- whatever goes wrong here too must not reach the application. The source's owner, as
-- whom the trigger runs, needs no right on the table of gaps.
create or replace function freshet.record_gap(source integer, operation text, code text, message text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    -- Bounded: ten thousand unhandled gaps of one source say no more than one does.
    if (select count(*) from (
            select from freshet.capture_gap g where g.source_id = record_gap.source limit 10000
        ) as bounded) < 10000
    then
        insert into freshet.capture_gap (source_id, operation, code, message)
        values (record_gap.source, record_gap.operation, record_gap.code, record_gap.message);
    end if;
exception when others then
    raise warning 'freshet: a change of source % was not captured and could not be recorded as a gap either: %',
        source, sqlerrm;
end
$$;

revoke all on function freshet.record_gap(integer, text, text, text) from public;
