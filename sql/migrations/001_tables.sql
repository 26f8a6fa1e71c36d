-- The tables behind the public views and functions. All of them are private:
-- applications and operators go through freshet.create_sink and its kin.

-- One row: who this installation is. Redis keys of Freshet's own carry the id,
-- so two databases that share a target never take each other's for their own.
create table freshet.installation (
    singleton   boolean primary key default true constraint installation_is_one_row check (singleton),
    id            text not null,
    created_at    timestamptz not null default now(),
    -- drawn when the server was found to have gone back in time; part of the incarnation
    past          text,
    -- how long changes stay after every lane has applied them, so that a cursor can go back
    retention     interval not null default '10 minutes',
    -- triggers go on to another segment when theirs is so old or so large
    rotate_after  interval not null default '5 minutes',
    rotate_bytes  bigint not null default 64 << 20,
    -- a reader's statement is over by the time a segment of this age is first written to
    settle_after  interval not null default '1 minute',
    -- where nobody rotates, capture stops at this size of a segment
    stop_bytes    bigint not null default 1 << 30,
    -- a backfill is split into ranges of about so many rows, which workers share
    range_rows    integer not null default 250000
);

insert into freshet.installation (id)
values (substr(md5(gen_random_uuid()::text), 1, 12));

-- One row that a crash or a promotion empties (that is what unlogged means) and
-- a clean restart keeps. With another value in it, transaction ids that a cursor
-- has seen as finished may be given out a second time.
create unlogged table freshet.incarnation (
    singleton  boolean primary key default true constraint incarnation_is_one_row check (singleton),
    value      text not null
);

-- A table that feeds sinks. Columns are kept by attribute number, so that a
-- rename changes nothing here.
create table freshet.source (
    id             integer generated always as identity primary key,
    -- null once its capture is dropped
    relid          oid constraint source_relid_key unique,
    schema_name    name not null,
    table_name     name not null,
    key_attnums    smallint[] not null,
    segment        integer not null default 1,
    -- the catalog as capture was last looked after (see freshet.fingerprint)
    fingerprint    jsonb,
    mended_at      timestamptz,
    mend_tries     integer not null default 0,
    mend_after     timestamptz,
    mend_error     text,
    -- changes of transactions visible in this snapshot may be gone from the change table
    floor          pg_snapshot not null,
    created_at     timestamptz not null default now()
);

-- A piece of a change table. Triggers write to one of them, and one in which everything
-- was applied long enough ago is truncated.
create table freshet.segment (
    source_id      integer not null constraint segment_source_fkey references freshet.source (id) on delete cascade,
    number         integer not null,
    created_at     timestamptz not null default clock_timestamp(),
    -- null: it is not the one that triggers write to
    current_since  timestamptz,
    -- since then all that is in it is visible in the snapshot `consumed`, which every lane
    -- has passed
    consumed_at    timestamptz,
    consumed       pg_snapshot,
    constraint segment_pkey primary key (source_id, number)
);

create table freshet.sink (
    id                integer generated always as identity primary key,
    name              text not null constraint sink_name_key unique,
    source_id         integer not null constraint sink_source_fkey references freshet.source (id),
    -- raised by every change of what entries look like; part of every fence
    definition        integer not null default 1,
    -- raised by every change at all; a worker that sees another one reads the sink anew
    revision          integer not null default 1,
    key               text not null,
    key_parts         jsonb not null,
    key_attnums       smallint[] not null,
    -- key columns that are compared and ordered as lower(column)
    folded_attnums    smallint[] not null,
    -- the columns of the index that orders a backfill
    order_attnums     smallint[] not null,
    -- the columns of the entry; null: all there are
    column_attnums    smallint[],
    -- an expression that makes the entry instead of the columns, and its type
    value             text,
    value_type        oid,
    -- an expression that a worker makes the entry with, of the columns
    transform         text,
    -- several rows share a key, and value is an aggregate over them
    grouped           boolean not null default false,
    filter            text,
    -- null: entries do not expire
    expires           interval,
    -- an expression for the moment at which an entry expires
    expires_at        text,
    accept_drift      boolean not null default false,
    -- other tables that its expressions read
    reads             oid[] not null default '{}',
    -- what its expressions are made of that can come to be another; see freshet.check_purity
    calls             jsonb not null default '[]',
    targets           text[] not null,
    shards            integer not null
        constraint sink_shards_are_few check (shards between 1 and 64),
    capture           text not null,
    on_schema_change  text not null,
    max_lag           interval not null,
    max_pending       bigint,
    max_rate          integer,
    state             text not null default 'active'
        constraint sink_state_is_known check (state in ('active', 'paused', 'failing', 'retiring', 'dropping')),
    -- why the state is failing
    failing           text,
    keep_entries      boolean not null default false,
    -- why nothing can be written for the sink, if so
    broken            text,
    -- from when on one that is broken is looked at again
    survey_after      timestamptz,
    notice            text,
    coverage          text not null default 'lazy'
        constraint sink_coverage_is_known check (coverage in ('lazy', 'full')),
    created_at        timestamptz not null default now()
);

create index sink_source_id_idx on freshet.sink (source_id);

-- Work that one worker at a time may do: a lane, a range of a backfill, a sweep, or the
-- removal of a dropped sink's entries; or a lane that was, before its sink had fewer shards. Whoever does it holds the lease under its
-- epoch; the same epoch and nonce stand in the fence of the lease's control key.
create table freshet.lease (
    id             bigint generated always as identity primary key,
    sink_id        integer not null constraint lease_sink_fkey references freshet.sink (id) on delete cascade,
    kind           text not null
        constraint lease_kind_is_known check (kind in ('sync', 'retired', 'backfill', 'sweep', 'purge')),
    target         text not null,
    -- the last part of the control key: the shard of a lane, b<number> of a range
    part           text not null,
    epoch          bigint not null default 1,
    nonce          text not null default substr(md5(gen_random_uuid()::text), 1, 16),
    job_id         bigint,
    holder         text,
    -- whose its job is while nobody has taken it; null: whoever comes first
    offered_to     text,
    heartbeat_at   timestamptz not null default clock_timestamp(),
    -- true from just before the control key is first written: if the key is missing
    -- afterwards, the target has lost it
    stamped        boolean not null default false,
    -- it was behind for longer than its sink allows: change tables are emptied without it
    lapsed         boolean not null default false,
    -- the definition of the sink under which no control key of this lease's is older
    definition     integer not null default 0,
    -- the cursor counts, whatever an older one in the control key says: shards were changed
    recut          boolean not null default false,
    -- what database and target had been through when the control key was last seen; null: not known
    life           text,
    -- the lane removes the entry of whatever changes, while a purge removes all the others
    closing        boolean not null default false,
    -- keys that others have written to the target may be taken over, once
    adopt          boolean not null default false,
    -- so many keys of the sink's form are in the target and not from it, or another
    -- installation writes them: nothing is written
    blocked        bigint,
    blocked_by     text,
    -- a copy of this database that has taken the control key, while the key is left to it
    rival          text,
    -- how often the key was taken from such a copy lately, and when last
    rivalries      integer not null default 0,
    rivalry_at     timestamptz,
    finished_at    timestamptz,
    -- a sweep has looked at keys: what is asked for later is for another one
    begun          boolean not null default false,
    -- copy of the cursor in the control key, at most a heartbeat old
    cursor         text not null,
    -- everything visible in this snapshot is applied (or was seen not to concern the lane)
    passed         pg_snapshot,
    as_of          timestamptz,
    last_error     text,
    last_error_at  timestamptz,
    constraint lease_part_key unique (sink_id, kind, target, part)
) with (fillfactor = 50);

create table freshet.worker (
    id            text primary key,
    role          name not null,
    targets       text[] not null,
    -- the functions of Go that it has registered
    transforms    text[] not null default '{}',
    started_at    timestamptz not null default clock_timestamp(),
    heartbeat_at  timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table freshet.backfill_run (
    id              bigint generated always as identity primary key,
    sink_id         integer not null constraint backfill_run_sink_fkey references freshet.sink (id) on delete cascade,
    reason          text not null
        constraint backfill_run_reason_is_known check (reason in ('create', 'user', 'rewarm')),
    state           text not null default 'queued'
        constraint backfill_run_state_is_known check (state in ('queued', 'running', 'paused', 'sweeping', 'completed', 'cancelled')),
    -- which rows; null: all of them
    filter          text,
    -- entries may be missing until it is done
    needed          boolean not null default false,
    -- entries may be wrong until it is done
    repairs         boolean not null default false,
    -- orphans are looked for at the end
    sweeps          boolean not null default false,
    rows_estimated  bigint not null default 0,
    -- by ranges that are no more
    rows_done       bigint not null default 0,
    -- rows a second at most, all ranges together; null: no limit
    rate            integer,
    -- until then the rows that ranges have been given leave to read take, at that rate
    paced_until     timestamptz,
    -- every row is written as it is in this snapshot, or later
    requested       pg_snapshot not null default pg_current_snapshot(),
    -- since then, and with so many rows done by then, has it been running
    counted_from    timestamptz,
    counted_rows    bigint not null default 0,
    created_at      timestamptz not null default clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz
);

create index backfill_run_sink_id_idx on freshet.backfill_run (sink_id);

-- A key range of a backfill on one target: tuples of the order columns in
-- (lower, upper], null for no bound. The intent is what may have been written to the
-- target and is not validated yet: key tuples after the position, up to intent_upper or the
-- end of the range, that were read in intent_snapshot, or later.
create table freshet.backfill_range (
    lease_id            bigint primary key constraint backfill_range_lease_fkey references freshet.lease (id) on delete cascade,
    run_id              bigint not null constraint backfill_range_run_fkey references freshet.backfill_run (id) on delete cascade,
    lower               text[],
    upper               text[],
    -- a chunk has to be read in a snapshot that covers this one
    requested           pg_snapshot not null default pg_current_snapshot(),
    -- another range does it all over again: only what is open of it is validated
    superseded          boolean not null default false,
    -- nobody can work on it for now, and it has no job
    parked              boolean not null default false,
    -- validated up to and including this tuple; null: nothing yet
    position            text[],
    rows_done           bigint not null default 0,
    intent_upper        text[],
    intent_snapshot     pg_snapshot,
    intent_incarnation  text,
    -- how often position and intent were changed
    steps               bigint not null default 0,
    finished_at         timestamptz,
    -- who finished it: a cursor in the target that sees this transaction was written after
    -- everything that the range wrote, if it is of the same life of the database. Null once
    -- a re-warm is to write it all again.
    finished_xid        xid8,
    finished_in         text
);

create index backfill_range_run_id_idx on freshet.backfill_range (run_id);

-- What a trigger could not record. No unique index: two writers must never wait
-- for each other here.
create table freshet.capture_gap (
    source_id  integer not null,
    at         timestamptz not null default clock_timestamp(),
    xid        xid8 not null default pg_current_xact_id(),
    operation  text not null,
    code       text not null,
    message    text not null
);
-- Without a key, which a writer would wait for another's at. A publication of all tables lets nothing be
-- deleted from a table that has neither.
alter table freshet.capture_gap replica identity full;

-- Goes on where not even a gap could be recorded, such as on a disk that is full: it needs no room, and
-- stays when a transaction is rolled back. Of which source that was it does not say.
create sequence freshet.unrecorded;

-- Partitions that a worker has come upon before anybody has looked after them. Without a
-- foreign key, which would wait for whoever mends the source.
create table freshet.noted_partition (
    source_id  integer not null,
    relid      oid not null,
    -- xmin of its row in pg_inherits: attached again, it is another one
    attached   text not null,
    constraint noted_partition_pkey primary key (source_id, relid, attached)
);

-- An entry that is absent from a target because making it raises an error. A row is here
-- before the entry is removed, and goes after the entry that is right was written.
create table freshet.failure (
    sink_id    integer not null constraint failure_sink_fkey references freshet.sink (id) on delete cascade,
    target     text not null,
    key        text not null collate "C",
    -- the key columns in the order of the sink's key_attnums
    tuple      text[] not null,
    code       text not null,
    message    text not null,
    -- when the row was read that raised the error: who read it later knows better
    read_at    timestamptz not null,
    first_at   timestamptz not null default clock_timestamp(),
    tried_at   timestamptz not null default clock_timestamp(),
    attempts   integer not null default 1,
    next_try   timestamptz not null,
    constraint failure_pkey primary key (sink_id, target, key)
);

create index failure_next_try_idx on freshet.failure (next_try);

-- A target that the entries of a sink were removed from. One that goes back to the data of
-- some time before has them again, and a worker that sees who they are of removes them again.
create table freshet.removed (
    sink_id     integer not null,
    target      text not null,
    -- the sink and its source as they were
    sink        jsonb not null,
    source      jsonb not null,
    removed_at  timestamptz not null default clock_timestamp(),
    constraint removed_pkey primary key (sink_id, target)
);

revoke all on all tables in schema freshet from public;
revoke all on all sequences in schema freshet from public;
