-- The public views, made anew by every migration. See freshet.replace_view.

select freshet.replace_view('sinks', $view$
select s.name as sink,
       -- Of one that got another key, the old entries are dropped.
       case s.state when 'retiring' then 'dropping' else s.state end as state,
       coalesce(c.oid::pg_catalog.regclass::text, o.schema_name || '.' || o.table_name) as source,
       s.key,
       case when s.column_attnums is not null then
           (select pg_catalog.array_agg(a.attname::text order by u.n)
            from pg_catalog.unnest(s.column_attnums) with ordinality as u (attnum, n)
            join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.attnum)
           when s.value is null then '{*}' end as columns,
       s.value,
       s.transform,
       s.filter,
       s.expires,
       s.expires_at,
       s.accept_drift,
       s.targets,
       s.shards,
       s.capture,
       s.max_lag,
       s.max_pending,
       s.max_rate,
       s.coverage,
       s.on_schema_change,
       s.notice,
       s.definition,
       s.created_at
from freshet.sink s
join freshet.source o on o.id = s.source_id
left join pg_catalog.pg_class c on c.oid = o.relid;
$view$);

comment on view freshet.sinks is 'Every sink and what it was made with.';

select freshet.replace_view('status', $view$
select s.name as sink,
       l.target,
       l.part::integer as shard,
       case
           when s.state in ('retiring', 'dropping') or l.closing then 'dropping'
           when s.broken is not null or o.mend_error is not null or s.state = 'failing' then 'failing'
           when l.lapsed then 'lapsed'
           when s.state = 'paused' then 'paused'
           when not served.by_any then 'unserved'
           when l.blocked > 0 or l.blocked_by is not null or l.rival is not null then 'blocked'
           when run.reason = 'create' then 'warming'
           when run.reason is not null then 'rewarming'
           when a.as_of is null or a.as_of < pg_catalog.clock_timestamp() - interval '10 seconds' then 'behind'
           else 'live'
       end as state,
       s.coverage,
       a.as_of,
       pg_catalog.clock_timestamp() - a.as_of as lag,
       freshet.pending(s.source_id, coalesce(l.passed, pg_catalog.split_part(l.cursor, ' ', 1)::pg_snapshot)) as pending,
       l.holder as worker,
       coalesce(why.so, failed.error) as last_error,
       -- What stands in the way now has no time; what went wrong has.
       case when why.so is null then failed.at end as last_error_at
from freshet.lease l
join freshet.sink s on s.id = l.sink_id
join freshet.source o on o.id = s.source_id
cross join freshet.function_for(s, l) as n (function)
-- What was not captured is not applied.
cross join lateral (
    select case when l.as_of is not null then
        least(l.as_of, (select min(g.at) from freshet.capture_gap g where g.source_id = s.source_id)) end as as_of
) a
cross join lateral (
    select exists (
        select from freshet.worker w
        where l.target = any (w.targets) and (n.function is null or n.function = any (w.transforms))
          and w.heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds') as by_any
) served
-- What its state comes from, where that is known.
cross join lateral (
    select case
        when s.state in ('retiring', 'dropping') or l.closing then case when not served.by_any then pg_catalog.format(
            'no worker serves target %s, from which it is still to be removed: run one that has its URL, or give up what is there with '
            'select freshet.forget_target(%L, %L)', l.target, pg_catalog.split_part(s.name, '~', 1), l.target) end
        when s.broken is not null then s.broken
        when o.mend_error is not null then 'capture could not be mended: ' || o.mend_error
        when s.state = 'failing' then s.failing
        when s.state = 'paused' then null
        when not served.by_any then case when n.function is null then pg_catalog.format(
            'no worker serves target %s: run one that has its URL', l.target)
            else pg_catalog.format(
            'no worker that serves target %s has the Go transform %s: run one in a program that calls worker.RegisterTransform("%s", ...)',
            l.target, n.function, n.function) end
        else freshet.obstacle(s, l)
    end as so
) why
-- A backfill or a sweep that cannot go on is the sink's trouble as well.
cross join lateral (
    select l.last_error as error, l.last_error_at as at
    union all
    select w.last_error, w.last_error_at
    from freshet.lease w
    where w.sink_id = l.sink_id and w.target = l.target and w.kind in ('backfill', 'sweep', 'purge') and w.finished_at is null
    order by at desc nulls last
    limit 1
) failed
left join lateral (
    select b.reason from freshet.backfill_run b
    where b.sink_id = s.id and b.filter is null
      and (b.state in ('queued', 'running', 'paused')
           -- Entries may be wrong until its sweep is done, which is so for each target by itself.
           or b.state = 'sweeping' and (b.needed or b.repairs) and exists (
               select from freshet.lease w
               where w.sink_id = s.id and w.target = l.target and w.kind = 'sweep' and w.finished_at is null))
    order by b.id limit 1
) run on true
where l.kind = 'sync';
$view$);

comment on view freshet.status is 'How far each lane (sink, target, shard) has come. Everything committed up to as_of is in Redis.';

select freshet.replace_view('backfills', $view$
select b.id,
       s.name as sink,
       b.reason,
       b.filter,
       b.state,
       n.done as rows_done,
       n.estimated as rows_estimated,
       -- The total is an estimate: who has passed it does not know how much is left.
       case when b.state in ('sweeping', 'completed') then 100.0
           else least(99.9, pg_catalog.round(100.0 * n.done / greatest(n.estimated, 1), 1)) end as percent,
       pg_catalog.round(p.rate)::bigint as rows_per_second,
       case when b.state = 'running' and p.rate > 0 and n.done < n.estimated
           then pg_catalog.date_trunc('second', (n.estimated - n.done) / p.rate * interval '1 second') end as eta,
       b.rate as max_rate,
       e.last_error,
       e.last_error_at,
       b.created_at,
       b.started_at,
       b.finished_at
from freshet.backfill_run b
join freshet.sink s on s.id = b.sink_id
cross join lateral (
    select b.rows_done + coalesce(sum(r.rows_done), 0)::bigint as done, max(r.finished_at) as until
    from freshet.backfill_range r
    where r.run_id = b.id) d
cross join lateral (select d.done, greatest(b.rows_estimated, d.done) as estimated) n
cross join lateral (
    select (d.done - b.counted_rows) / nullif(extract(epoch from
        case when b.state = 'running' then pg_catalog.clock_timestamp() else d.until end - b.counted_from), 0) as rate
    where b.state in ('running', 'sweeping', 'completed')
    union all
    select null where b.state not in ('running', 'sweeping', 'completed')) p
left join lateral (
    select l.last_error, l.last_error_at
    from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
    where r.run_id = b.id and l.last_error is not null
    order by l.last_error_at desc
    limit 1) e on true;
$view$);

comment on view freshet.backfills is 'Every backfill, running and past.';

select freshet.replace_view('failures', $view$
select s.name as sink,
       f.target,
       f.key,
       f.message as error,
       f.code as sqlstate,
       f.first_at as first_failed_at,
       f.tried_at as last_tried_at,
       f.attempts,
       f.next_try as next_try_at
from freshet.failure f
join freshet.sink s on s.id = f.sink_id
where s.state <> 'dropping';
$view$);

comment on view freshet.failures
is 'Entries that are absent because making them raises an error. They are tried again; freshet.refresh does it at once.';

select freshet.replace_view('capture_gaps', $view$
select o.schema_name || '.' || o.table_name as source, g.at, g.operation, g.code, g.message
from freshet.capture_gap g
join freshet.source o on o.id = g.source_id;
$view$);

comment on view freshet.capture_gaps is 'Changes that a trigger could not record, and why.';

select freshet.replace_view('recent_changes', $view$
select s.name as sink,
       l.target,
       c.at,
       case c.op when 'i' then 'insert' when 'u' then 'update' when 'd' then 'delete' when 't' then 'truncate' else 'touch' end as operation,
       c.key,
       c.xid as transaction,
       c.id,
       (select pg_catalog.bool_and(coalesce(pg_catalog.pg_visible_in_snapshot(c.xid, a.passed), false))
        from freshet.lease a where a.sink_id = s.id and a.kind = 'sync' and a.target = l.target) as passed
from freshet.sink s
join freshet.source o on o.id = s.source_id and o.relid is not null
join freshet.lease l on l.sink_id = s.id and l.kind = 'sync' and l.part = '0'
cross join lateral freshet.changes_of(o.id, 1000) c
where s.state <> 'dropping';
$view$);

comment on view freshet.recent_changes
is 'The newest thousand changes captured for each sink, and whether its lanes have passed them: then they are in Redis.';

revoke all on freshet.sinks, freshet.status, freshet.backfills, freshet.failures, freshet.capture_gaps, freshet.recent_changes from public;
