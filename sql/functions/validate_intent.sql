-- Closes the open intent of a backfill range: tuples of its chunk that were
-- touched by transactions its snapshot did not see are touched again, so that the
-- lane reads and writes them after the chunk did. What became of the chunk in the target:
--
--   none   it did not land, and is only forgotten
--   partly it landed in part, and nobody knows how far: the range has not come further
--   all    it landed up to the tuple `done`, and the range has come as far; null if it had no rows
--   clean  the same, and the worker has seen since that no tuple in it was touched
--
-- Nothing happens without an intent.
create or replace function freshet.validate_intent(lease bigint, landed text, done text[], rows_read bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lc_monetary = 'C'
set array_nulls = on
set enable_seqscan = off
set jit = off
as $$
declare
    v_range      freshet.backfill_range;
    v_sink       freshet.sink;
    v_all        text;
    v_rendered   text;
    v_bounds     text;
    v_lower      text[];
    v_upper      text[];
    v_truncated  boolean;
begin
    select * into strict v_range from freshet.backfill_range r where r.lease_id = validate_intent.lease;
    if v_range.intent_snapshot is null then
        return;
    end if;
    if landed = 'none' then
        update freshet.backfill_range r
        set intent_upper = null, intent_snapshot = null, intent_incarnation = null
        where r.lease_id = validate_intent.lease;
        return;
    end if;
    if landed = 'clean' and freshet.snapshot_covers(v_range.intent_snapshot, v_range.requested) then
        update freshet.backfill_range r
        set position = coalesce(done, r.position), rows_done = r.rows_done + rows_read,
            intent_upper = null, intent_snapshot = null, intent_incarnation = null
        where r.lease_id = validate_intent.lease;
        return;
    end if;
    select s.* into strict v_sink
    from freshet.lease l join freshet.sink s on s.id = l.sink_id
    where l.id = validate_intent.lease;

    v_lower := coalesce(v_range.position, v_range.lower);
    v_upper := coalesce(case when landed <> 'partly' then done end, v_range.intent_upper, v_range.upper);

    -- Distinct as rendered, byte for byte: 1.0 and 1.00 are equal and two keys.
    select pg_catalog.string_agg('d.k' || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg(pg_catalog.format('t.k%1$s, t.k%1$s::pg_catalog.text collate pg_catalog."C" as r%1$s', k.attnum), ', ' order by k.attnum)
    into v_all, v_rendered
    from freshet.source s cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    where s.id = v_sink.source_id;
    v_bounds := freshet.within(v_sink.id, freshet.order_terms(v_sink.id, 't', true), v_lower, v_upper);

    perform freshet.touch(v_sink.source_id, pg_catalog.format(
        'select %s from (select distinct %s '
        'from freshet.window_ranges(%L, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select * from freshet.%I c where c.xid between r.lo and r.hi offset 0) c, lateral %s t '
        'where c.op <> ''t'' and %s) d',
        v_all, v_rendered, v_range.intent_snapshot, 'changes_' || v_sink.source_id, freshet.tuples_of(v_sink.source_id), v_bounds));

    execute pg_catalog.format(
        'select exists (select from freshet.window_ranges($1, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select * from freshet.%I c where c.xid between r.lo and r.hi offset 0) c where c.op = ''t'')',
        'changes_' || v_sink.source_id)
    into v_truncated
    using v_range.intent_snapshot;
    -- Read before a backfill was asked for that a range may have done since: what it wrote
    -- over that range's may be older, and nothing in the change table tell of it. After a crash of Postgres the snapshot may see transaction ids that were given out
    -- again since, and changes that it does not see may be gone from the change table (asked
    -- after reading it): then every row of the chunk is looked at again.
    if v_range.intent_incarnation is distinct from freshet.incarnation()
        or not freshet.snapshot_covers(v_range.intent_snapshot, v_range.requested)
        or not freshet.snapshot_covers(v_range.intent_snapshot, (select s.floor from freshet.source s where s.id = v_sink.source_id))
    then
        v_truncated := true;
        perform freshet.touch_rows(v_sink.id, v_lower, v_upper);
    end if;
    if v_truncated then
        perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
    end if;

    update freshet.backfill_range r
    set position = case when landed <> 'partly' then coalesce(done, r.position) else r.position end,
        rows_done = r.rows_done + case when landed <> 'partly' then rows_read else 0 end,
        intent_upper = null, intent_snapshot = null, intent_incarnation = null
    where r.lease_id = validate_intent.lease;
end
$$;

revoke all on function freshet.validate_intent(bigint, text, text[], bigint) from public;
