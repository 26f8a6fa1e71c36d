-- Freshet, schema version 2. Written by "freshet migrate --print"; apply it with
--     psql -v ON_ERROR_STOP=1 -f install.sql
-- as often as you like. Everything is in schema freshet.

set client_min_messages = warning;

do $freshet$
begin
    if current_setting('server_version_num')::integer < 140000 then
        raise exception 'this server is Postgres %; Freshet needs version 14 or later', current_setting('server_version');
    end if;
end
$freshet$;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
begin
    if to_regnamespace('freshet') is null then
        create schema freshet;
    end if;
    if exists (select from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'freshet' and a.grantee = 0) then
        revoke all on schema freshet from public;
    end if;
    if to_regclass('freshet.schema_version') is null then
        create table freshet.schema_version (
            version     integer primary key,
            name        text not null,
            applied_at  timestamptz not null default now()
        );
    end if;
    if exists (select from pg_class c, aclexplode(c.relacl) a where c.oid = to_regclass('freshet.schema_version') and a.grantee = 0) then
        revoke all on freshet.schema_version from public;
    end if;
end
$freshet$;
do $freshet$
begin
    if exists (select from freshet.schema_version where version > 2) then
        raise exception 'the schema in this database is newer than this text, which brings version 2';
    elsif not exists (select from freshet.schema_version) and to_regclass('freshet.installation') is not null then
        raise exception 'schema freshet has tables and no version, as after a restore without rows'
            using hint = 'drop schema freshet cascade, then migrate again and create the sinks anew';
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.schema_version') is not null then
        execute 'select exists (select from freshet.schema_version where version = 1)' into v_done;
    end if;
    if not v_done then
        execute $migration$
insert into freshet.schema_version (version, name) values (1, 'tables');

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
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.schema_version') is not null then
        execute 'select exists (select from freshet.schema_version where version = 2)' into v_done;
    end if;
    if not v_done then
        execute $migration$
insert into freshet.schema_version (version, name) values (2, 'barred');

alter table freshet.source
    -- the transaction that kept mending from it when somebody last tried, and since when that one did
    add column if not exists barred_by     text,
    add column if not exists barred_since  timestamptz;
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 1)' into v_done;
    end if;
    if not v_done then
        execute $migration$
CREATE TABLE freshet.river_migration(
  id bigserial PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT NOW(),
  version bigint NOT NULL,
  CONSTRAINT version CHECK (version >= 1)
);

CREATE UNIQUE INDEX ON freshet.river_migration USING btree(version);

insert into freshet.river_migration (version) values (1);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 2)' into v_done;
    end if;
    if not v_done then
        execute $migration$
CREATE TYPE freshet.river_job_state AS ENUM(
  'available',
  'cancelled',
  'completed',
  'discarded',
  'retryable',
  'running',
  'scheduled'
);

CREATE TABLE freshet.river_job(
  -- 8 bytes
  id bigserial PRIMARY KEY,

  -- 8 bytes (4 bytes + 2 bytes + 2 bytes)
  --
  -- `state` is kept near the top of the table for operator convenience -- when
  -- looking at jobs with `SELECT *` it'll appear first after ID. The other two
  -- fields aren't as important but are kept adjacent to `state` for alignment
  -- to get an 8-byte block.
  state freshet.river_job_state NOT NULL DEFAULT 'available',
  attempt smallint NOT NULL DEFAULT 0,
  max_attempts smallint NOT NULL,

  -- 8 bytes each (no alignment needed)
  attempted_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT NOW(),
  finalized_at timestamptz,
  scheduled_at timestamptz NOT NULL DEFAULT NOW(),

  -- 2 bytes (some wasted padding probably)
  priority smallint NOT NULL DEFAULT 1,

  -- types stored out-of-band
  args jsonb,
  attempted_by text[],
  errors jsonb[],
  kind text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  queue text NOT NULL DEFAULT 'default',
  tags varchar(255)[],

  CONSTRAINT finalized_or_finalized_at_null CHECK ((state IN ('cancelled', 'completed', 'discarded') AND finalized_at IS NOT NULL) OR finalized_at IS NULL),
  CONSTRAINT max_attempts_is_positive CHECK (max_attempts > 0),
  CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
  CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
  CONSTRAINT kind_length CHECK (char_length(kind) > 0 AND char_length(kind) < 128)
);

-- We may want to consider adding another property here after `kind` if it seems
-- like it'd be useful for something.
CREATE INDEX river_job_kind ON freshet.river_job USING btree(kind);

CREATE INDEX river_job_state_and_finalized_at_index ON freshet.river_job USING btree(state, finalized_at) WHERE finalized_at IS NOT NULL;

CREATE INDEX river_job_prioritized_fetching_index ON freshet.river_job USING btree(state, queue, priority, scheduled_at, id);

CREATE INDEX river_job_args_index ON freshet.river_job USING GIN(args);

CREATE INDEX river_job_metadata_index ON freshet.river_job USING GIN(metadata);

CREATE OR REPLACE FUNCTION freshet.river_job_notify()
  RETURNS TRIGGER
  AS $$
DECLARE
  payload json;
BEGIN
  IF NEW.state = 'available' THEN
    -- Notify will coalesce duplicate notifications within a transaction, so
    -- keep these payloads generalized:
    payload = json_build_object('queue', NEW.queue);
    PERFORM
      pg_notify('river_insert', payload::text);
  END IF;
  RETURN NULL;
END;
$$
LANGUAGE plpgsql;

CREATE TRIGGER river_notify
  AFTER INSERT ON freshet.river_job
  FOR EACH ROW
  EXECUTE PROCEDURE freshet.river_job_notify();

CREATE UNLOGGED TABLE freshet.river_leader(
    -- 8 bytes each (no alignment needed)
    elected_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,

    -- types stored out-of-band
    leader_id text NOT NULL,
    name text PRIMARY KEY,

    CONSTRAINT name_length CHECK (char_length(name) > 0 AND char_length(name) < 128),
    CONSTRAINT leader_id_length CHECK (char_length(leader_id) > 0 AND char_length(leader_id) < 128)
);

insert into freshet.river_migration (version) values (2);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 3)' into v_done;
    end if;
    if not v_done then
        execute $migration$
ALTER TABLE freshet.river_job ALTER COLUMN tags SET DEFAULT '{}';
UPDATE freshet.river_job SET tags = '{}' WHERE tags IS NULL;
ALTER TABLE freshet.river_job ALTER COLUMN tags SET NOT NULL;

insert into freshet.river_migration (version) values (3);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 4)' into v_done;
    end if;
    if not v_done then
        execute $migration$
-- The args column never had a NOT NULL constraint or default value at the
-- database level, though we tried to ensure one at the application level.
ALTER TABLE freshet.river_job ALTER COLUMN args SET DEFAULT '{}';
UPDATE freshet.river_job SET args = '{}' WHERE args IS NULL;
ALTER TABLE freshet.river_job ALTER COLUMN args SET NOT NULL;
ALTER TABLE freshet.river_job ALTER COLUMN args DROP DEFAULT;

-- The metadata column never had a NOT NULL constraint or default value at the
-- database level, though we tried to ensure one at the application level.
ALTER TABLE freshet.river_job ALTER COLUMN metadata SET DEFAULT '{}';
UPDATE freshet.river_job SET metadata = '{}' WHERE metadata IS NULL;
ALTER TABLE freshet.river_job ALTER COLUMN metadata SET NOT NULL;

-- The 'pending' job state will be used for upcoming functionality:
ALTER TYPE freshet.river_job_state ADD VALUE IF NOT EXISTS 'pending' AFTER 'discarded';

ALTER TABLE freshet.river_job DROP CONSTRAINT finalized_or_finalized_at_null;
ALTER TABLE freshet.river_job ADD CONSTRAINT finalized_or_finalized_at_null CHECK (
    (finalized_at IS NULL AND state NOT IN ('cancelled', 'completed', 'discarded')) OR
    (finalized_at IS NOT NULL AND state IN ('cancelled', 'completed', 'discarded'))
);

DROP TRIGGER river_notify ON freshet.river_job;
DROP FUNCTION freshet.river_job_notify;

--
-- Create table `river_queue`.
--

CREATE TABLE freshet.river_queue (
    name text PRIMARY KEY NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb NOT NULL DEFAULT '{}' ::jsonb,
    paused_at timestamptz,
    updated_at timestamptz NOT NULL
);

--
-- Alter `river_leader` to add a default value of 'default` to `name`.
--

ALTER TABLE freshet.river_leader
    ALTER COLUMN name SET DEFAULT 'default',
    DROP CONSTRAINT name_length,
    ADD CONSTRAINT name_length CHECK (name = 'default');

insert into freshet.river_migration (version) values (4);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 5)' into v_done;
    end if;
    if not v_done then
        execute $migration$
--
-- Rebuild the migration table so it's based on `(line, version)`.
--

DO
$body$
BEGIN
    -- Tolerate users who may be using their own migration system rather than
    -- River's. If they are, they will have skipped version 001 containing
    -- `CREATE TABLE river_migration`, so this table won't exist.
    IF (SELECT to_regclass('freshet.river_migration') IS NOT NULL) THEN
        ALTER TABLE freshet.river_migration
            RENAME TO river_migration_old;

        CREATE TABLE freshet.river_migration(
            line TEXT NOT NULL,
            version bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT NOW(),
            CONSTRAINT line_length CHECK (char_length(line) > 0 AND char_length(line) < 128),
            CONSTRAINT version_gte_1 CHECK (version >= 1),
            PRIMARY KEY (line, version)
        );

        INSERT INTO freshet.river_migration
            (created_at, line, version)
        SELECT created_at, 'main', version
        FROM freshet.river_migration_old;

        DROP TABLE freshet.river_migration_old;
    END IF;
END;
$body$
LANGUAGE 'plpgsql'; 

--
-- Add `river_job.unique_key` and bring up an index on it.
--

-- These statements use `IF NOT EXISTS` to allow users with a `river_job` table
-- of non-trivial size to build the index `CONCURRENTLY` out of band of this
-- migration, then follow by completing the migration.
ALTER TABLE freshet.river_job
    ADD COLUMN IF NOT EXISTS unique_key bytea;

CREATE UNIQUE INDEX IF NOT EXISTS river_job_kind_unique_key_idx ON freshet.river_job (kind, unique_key) WHERE unique_key IS NOT NULL;

--
-- Create `river_client` and derivative.
--
-- This feature hasn't quite yet been implemented, but we're taking advantage of
-- the migration to add the schema early so that we can add it later without an
-- additional migration.
--

CREATE UNLOGGED TABLE freshet.river_client (
    id text PRIMARY KEY NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb NOT NULL DEFAULT '{}',
    paused_at timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT name_length CHECK (char_length(id) > 0 AND char_length(id) < 128)
);

-- Differs from `river_queue` in that it tracks the queue state for a particular
-- active client.
CREATE UNLOGGED TABLE freshet.river_client_queue (
    river_client_id text NOT NULL REFERENCES freshet.river_client (id) ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    max_workers bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    num_jobs_completed bigint NOT NULL DEFAULT 0,
    num_jobs_running bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (river_client_id, name),
    CONSTRAINT name_length CHECK (char_length(name) > 0 AND char_length(name) < 128),
    CONSTRAINT num_jobs_completed_zero_or_positive CHECK (num_jobs_completed >= 0),
    CONSTRAINT num_jobs_running_zero_or_positive CHECK (num_jobs_running >= 0)
);

insert into freshet.river_migration (line, version) values ('main', 5);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 6)' into v_done;
    end if;
    if not v_done then
        execute $migration$
CREATE OR REPLACE FUNCTION freshet.river_job_state_in_bitmask(bitmask BIT(8), state freshet.river_job_state)
RETURNS boolean
LANGUAGE SQL
IMMUTABLE
AS $$
    SELECT CASE state
        WHEN 'available' THEN get_bit(bitmask, 7)
        WHEN 'cancelled' THEN get_bit(bitmask, 6)
        WHEN 'completed' THEN get_bit(bitmask, 5)
        WHEN 'discarded' THEN get_bit(bitmask, 4)
        WHEN 'pending'   THEN get_bit(bitmask, 3)
        WHEN 'retryable' THEN get_bit(bitmask, 2)
        WHEN 'running'   THEN get_bit(bitmask, 1)
        WHEN 'scheduled' THEN get_bit(bitmask, 0)
        ELSE 0
    END = 1;
$$;

--
-- Add `river_job.unique_states` and bring up an index on it.
--
-- This column may exist already if users manually created the column and index
-- as instructed in the changelog so the index could be created `CONCURRENTLY`.
--
ALTER TABLE freshet.river_job ADD COLUMN IF NOT EXISTS unique_states BIT(8);

-- This statement uses `IF NOT EXISTS` to allow users with a `river_job` table
-- of non-trivial size to build the index `CONCURRENTLY` out of band of this
-- migration, then follow by completing the migration.
CREATE UNIQUE INDEX IF NOT EXISTS river_job_unique_idx ON freshet.river_job (unique_key)
    WHERE unique_key IS NOT NULL
      AND unique_states IS NOT NULL
      AND freshet.river_job_state_in_bitmask(unique_states, state);

-- Remove the old unique index. Users who are actively using the unique jobs
-- feature and who wish to avoid deploy downtime may want od drop this in a
-- subsequent migration once all jobs using the old unique system have been
-- completed (i.e. no more rows with non-null unique_key and null
-- unique_states).
DROP INDEX freshet.river_job_kind_unique_key_idx;

insert into freshet.river_migration (line, version) values ('main', 6);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 7)' into v_done;
    end if;
    if not v_done then
        execute $migration$
--
-- Notification outbox.
--

CREATE TABLE freshet.river_notification (
    id bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    payload text NOT NULL,
    topic text NOT NULL,
    CONSTRAINT topic_length CHECK (length(topic) > 0 AND length(topic) < 128)
);

CREATE INDEX river_notification_created_at_idx ON freshet.river_notification (created_at);
CREATE INDEX river_notification_topic_id_idx ON freshet.river_notification (topic, id);

--
-- SQLite JSONB conversion.
--
-- No-op. Postgres already stores River JSON columns as jsonb.

--
-- SQL cleanup.
--

--
-- Drop unused tables `river_client` and `river_client_queue`.
--

DROP TABLE freshet.river_client_queue;
DROP TABLE freshet.river_client;

--
-- Adds `DEFAULT 25` to `river_job.max_attempts`.
--

ALTER TABLE freshet.river_job
    ALTER COLUMN max_attempts SET DEFAULT 25;

--
-- Changes `river_queue.updated_at` to have a default of `CURRENT_TIMESTAMP`.
--

ALTER TABLE freshet.river_queue
    ALTER COLUMN updated_at SET DEFAULT CURRENT_TIMESTAMP;

insert into freshet.river_migration (line, version) values ('main', 7);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('freshet.river_migration') is not null then
        execute 'select exists (select from freshet.river_migration where version = 8)' into v_done;
    end if;
    if not v_done then
        execute $migration$
-- No-op. Postgres sequences already prevent automatically generated job IDs
-- from being reused.
SELECT 1;

insert into freshet.river_migration (line, version) values ('main', 8);
$migration$;
    end if;
end
$freshet$;
commit;

begin;
do $freshet$ begin perform pg_advisory_xact_lock(1181905010); end $freshet$;
do $freshet$
begin
    if exists (select from freshet.schema_version where version > 2) then
        raise exception 'the schema in this database is newer than this text, which brings version 2';
    elsif not exists (select from freshet.schema_version) and to_regclass('freshet.installation') is not null then
        raise exception 'schema freshet has tables and no version, as after a restore without rows'
            using hint = 'drop schema freshet cascade, then migrate again and create the sinks anew';
    end if;
end
$freshet$;
do $$
declare
    v_function  regprocedure;
begin
    for v_function in
        select p.oid from pg_proc p where p.pronamespace = 'freshet'::regnamespace and p.proname like 'river\_%'
    loop
        execute format('revoke all on function %s from public', v_function);
    end loop;
end
$$;
set local check_function_bodies = off;

-- Adds a range to a backfill: its lease, and the job that takes it.
create or replace function freshet.add_range(run bigint, target text, lower text[], upper text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    select b.sink_id, 'backfill', add_range.target,
           pg_catalog.concat_ws('_', 'b' || run, (
               select nullif(count(*), 0) from freshet.backfill_range r
               join freshet.lease l on l.id = r.lease_id
               where r.run_id = run and l.target = add_range.target)), ''
    from freshet.backfill_run b
    where b.id = run
    returning id into strict v_lease;
    insert into freshet.backfill_range (lease_id, run_id, lower, upper)
    values (v_lease, run, add_range.lower, add_range.upper);
    perform freshet.enqueue_lease(v_lease);
end
$$;

revoke all on function freshet.add_range(bigint, text, text[], text[]) from public;

-- Gives a backfill of everything ranges on the targets that its sink has got since. Who calls it holds
-- the sink locked.
create or replace function freshet.add_targets(run bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select freshet.add_range(b.id, t.target, null, null)
    from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id cross join lateral pg_catalog.unnest(s.targets) as t (target)
    where b.id = add_targets.run and not exists (
        select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = b.id and l.target = t.target and not r.superseded)
$$;

revoke all on function freshet.add_targets(bigint) from public;

-- Makes sure that the owner of a source can own its trigger function, which runs with his rights
-- and with nobody else's. Who may make something in the schema owns the rest of the capture too.
create or replace function freshet.admit_owner(owner oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema  oid := 'freshet'::pg_catalog.regnamespace;
    v_gaps    oid := 'freshet.record_gap(integer, text, text, text)'::pg_catalog.regprocedure;
    v_super   boolean := (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
begin
    if not (select pg_catalog.pg_has_role(n.nspowner, 'usage') from pg_catalog.pg_namespace n where n.oid = v_schema) then
        -- Only a superuser can give what is made here to somebody who may not make it.
        if pg_catalog.has_schema_privilege(owner, v_schema, 'usage')
            and pg_catalog.has_function_privilege(owner, v_gaps, 'execute')
            and (pg_catalog.has_schema_privilege(owner, v_schema, 'create') or v_super)
        then
            return;
        end if;
        raise exception 'source: its owner "%" may not use Freshet', pg_catalog.pg_get_userbyid(owner)
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Have somebody who may do so run: grant freshet_admin to %I;', pg_catalog.pg_get_userbyid(owner));
    end if;
    -- Granted to the owner himself even if he has it as a member of some role: capture is to
    -- go on when he is no member any more.
    if not exists (
        select from pg_catalog.pg_namespace n cross join lateral pg_catalog.aclexplode(n.nspacl) a
        where n.oid = v_schema and a.grantee = owner and a.privilege_type = 'USAGE')
    then
        execute pg_catalog.format('grant usage on schema freshet to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
    if not exists (
        select from pg_catalog.pg_proc p cross join lateral pg_catalog.aclexplode(p.proacl) a
        where p.oid = v_gaps and a.grantee = owner and a.privilege_type = 'EXECUTE')
    then
        execute pg_catalog.format('grant execute on function freshet.record_gap(integer, text, text, text) to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
    if not v_super and not pg_catalog.has_schema_privilege(owner, v_schema, 'create') then
        execute pg_catalog.format('grant create on schema freshet to %I', pg_catalog.pg_get_userbyid(owner));
    end if;
end
$$;

revoke all on function freshet.admit_owner(oid) from public;

-- Changes a sink. Null leaves an argument as it is, and what is named in `reset` goes back to
-- what it is when nobody says anything.
--
-- What says how an entry is made is changed in place: the definition is raised, so that
-- nobody writes by the old one any more, and every entry is written again. Another key makes
-- another sink of the same name, and the old one removes its entries: those that change at
-- once, and the others one after the other. So does a sink on a target that it leaves.
create or replace function freshet.alter_sink(
    name              text,
    source            regclass default null,
    key               text default null,
    columns           text[] default null,
    value             text default null,
    transform         text default null,
    filter            text default null,
    expires           interval default null,
    expires_at        text default null,
    targets           text[] default null,
    shards            integer default null,
    capture           text default null,
    backfill          boolean default null,
    adopt             boolean default null,
    accept_drift      boolean default null,
    on_schema_change  text default null,
    max_lag           interval default null,
    max_pending       bigint default null,
    max_rate          integer default null,
    reset             text[] default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What says which entries there are, and of what.
    v_defines  constant text[] := array['key', 'columns', 'value', 'transform', 'filter', 'expires', 'expires_at', 'targets', 'accept_drift'];
    v_all      constant text[] := v_defines || array['shards', 'on_schema_change', 'max_lag', 'max_pending', 'max_rate'];
    v_given    jsonb := pg_catalog.jsonb_build_object(
        'key', key, 'columns', columns, 'value', value, 'transform', transform, 'filter', filter, 'expires', expires, 'expires_at', expires_at,
        'targets', targets, 'shards', shards, 'accept_drift', accept_drift,
        'on_schema_change', on_schema_change, 'max_lag', max_lag, 'max_pending', max_pending, 'max_rate', max_rate);
    v_sink     freshet.sink;
    v_next     freshet.sink;
    v_relid    oid;
    v_parts    jsonb;
    v_unknown  text;
    v_target   text;
    v_lease    bigint;
begin
    -- First: the sink may be dropped while this waits.
    perform freshet.lock_definitions();
    v_sink := freshet.find_sink(name);
    perform freshet.check_owner(v_sink.id);
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    if source is not null then
        raise exception 'source: a sink stays with its source' using errcode = 'feature_not_supported',
            hint = 'Drop it, and create one of that name on the other table.';
    end if;
    perform freshet.refuse_later('capture', capture is not null);

    select pg_catalog.string_agg(pg_catalog.format('"%s"', r), ', ') into v_unknown
    from pg_catalog.unnest(reset) as r
    where r is null or r <> all (v_all);
    if v_unknown is not null then
        raise exception 'reset: % cannot be reset', v_unknown
            using errcode = 'invalid_parameter_value', hint = 'These can: ' || pg_catalog.array_to_string(v_all, ', ') || '.';
    end if;
    select r into v_unknown from pg_catalog.unnest(reset) as r where v_given -> r <> 'null' limit 1;
    if found then
        raise exception 'reset: % is both set and reset', v_unknown using errcode = 'invalid_parameter_value';
    end if;
    reset := coalesce(reset, '{}');
    perform freshet.check_shards(coalesce(shards, 1));
    perform freshet.check_rate('max_rate', max_rate);
    perform freshet.check_limits(coalesce(max_lag, interval '1 hour'), max_pending);
    perform freshet.check_schema_change(coalesce(on_schema_change, 'rewarm'));
    shards := case when 'shards' = any (reset) then 1 else coalesce(shards, v_sink.shards) end;

    update freshet.sink s
    set on_schema_change = case when 'on_schema_change' = any (reset) then 'rewarm' else coalesce(alter_sink.on_schema_change, s.on_schema_change) end,
        max_lag = case when 'max_lag' = any (reset) then interval '24 hours' else coalesce(alter_sink.max_lag, s.max_lag) end,
        max_pending = case when 'max_pending' = any (reset) then null else coalesce(alter_sink.max_pending, s.max_pending) end,
        max_rate = case when 'max_rate' = any (reset) then null else coalesce(alter_sink.max_rate, s.max_rate) end,
        -- Whoever changes a sink that fails wants it tried again.
        state = case s.state when 'failing' then 'active' else s.state end,
        failing = null,
        revision = s.revision + 1
    where s.id = v_sink.id
    returning * into v_sink;
    -- A re-warm that runs obeys the new rate from its next chunk on.
    update freshet.backfill_run b
    set rate = v_sink.max_rate, paced_until = null
    where b.sink_id = v_sink.id and b.reason = 'rewarm' and b.state in ('queued', 'running', 'paused');

    if reset && v_defines or exists (
        select from pg_catalog.jsonb_each(v_given) g where g.key = any (v_defines) and g.value <> 'null')
    then
        if v_relid is null or not exists (select from pg_catalog.pg_class c where c.oid = v_relid) then
            raise exception 'sink: the source of "%" is gone', name using errcode = 'object_not_in_prerequisite_state';
        end if;
        -- A column that was renamed a moment ago makes no other key.
        v_parts := freshet.named_key(v_relid, v_sink.key_parts);
        key := case when 'key' = any (reset) then null else coalesce(key, freshet.key_text(v_parts)) end;
        -- What somebody wrote goes only when it is named. Columns that nobody gave follow.
        if v_sink.value is not null and value is null and 'value' <> all (reset) and coalesce(transform, columns::text) is not null then
            raise exception '%: the sink has a value, which says what the entry is already', case when transform is not null then 'transform' else 'columns' end
                using errcode = 'invalid_parameter_value', hint = 'To give that up, add reset => ''{value}''.';
        end if;
        if v_sink.transform is not null and transform is null and 'transform' <> all (reset) and value is not null then
            raise exception 'value: the sink has a transform, which says what the entry is already'
                using errcode = 'invalid_parameter_value', hint = 'To give that up, add reset => ''{transform}''.';
        end if;
        transform := case when 'transform' = any (reset) then null else coalesce(transform, v_sink.transform) end;
        value := case when 'value' = any (reset) then null else coalesce(value, v_sink.value) end;
        columns := case when columns is not null then columns when value is not null or 'columns' = any (reset) or v_sink.value is not null then null
            when v_sink.column_attnums is null then '{*}'
            -- None is not null, which would be all of them.
            else (select coalesce(pg_catalog.array_agg(a.attname::text order by u.n), '{}')
                  from pg_catalog.unnest(v_sink.column_attnums) with ordinality as u (attnum, n)
                  join pg_catalog.pg_attribute a on a.attrelid = v_relid and a.attnum = u.attnum and not a.attisdropped) end;
        filter := case when 'filter' = any (reset) then null else coalesce(filter, v_sink.filter) end;
        -- One kind of expiry takes the other's place.
        v_next.expires := case when 'expires' = any (reset) or expires_at is not null and expires is null then null else coalesce(expires, v_sink.expires) end;
        v_next.expires_at := case when 'expires_at' = any (reset) or expires is not null and expires_at is null then null else coalesce(expires_at, v_sink.expires_at) end;
        targets := case when 'targets' = any (reset) then '{default}' else coalesce(targets, v_sink.targets) end;
        accept_drift := case when 'accept_drift' = any (reset) then false else coalesce(accept_drift, v_sink.accept_drift) end;
        perform freshet.check_kind(v_relid);
        v_next := freshet.check_definition(v_relid, key, columns, value, transform, filter, v_next.expires, v_next.expires_at, accept_drift, targets, v_sink.id);

        if v_next.key_parts is distinct from v_parts then
            -- Before the leases: the new sink may have to capture more.
            perform freshet.lock_capture(v_sink.source_id);
            -- Whoever writes by the old definition is refused; what is there goes.
            -- As whoever asks for a re-warm has it: before the leases.
            perform from freshet.sink s where s.id = v_sink.id for update;
            update freshet.sink s
            set name = s.name || '~' || s.id, state = 'retiring', broken = null, definition = s.definition + 1, revision = s.revision + 1
            where s.id = v_sink.id;
            update freshet.backfill_run b set state = 'cancelled', finished_at = pg_catalog.clock_timestamp()
            where b.sink_id = v_sink.id and b.state in ('queued', 'running', 'paused', 'sweeping');
            foreach v_target in array v_sink.targets loop
                perform freshet.close_target(v_sink.id, v_target);
            end loop;
            perform freshet.create_sink(name, v_relid::pg_catalog.regclass, key => key, columns => columns, value => value, transform => transform, filter => filter,
                expires => v_next.expires, expires_at => v_next.expires_at, targets => targets, shards => shards,
                backfill => coalesce(backfill, true), adopt => coalesce(adopt, false), accept_drift => accept_drift,
                on_schema_change => v_sink.on_schema_change, max_lag => v_sink.max_lag, max_pending => v_sink.max_pending,
                max_rate => v_sink.max_rate);
            if v_sink.state = 'paused' then
                perform freshet.pause_sink(name);
            end if;
            return;
        end if;

        foreach v_target in array targets loop
            if exists (select from freshet.lease l where l.sink_id = v_sink.id and l.target = v_target and l.closing) then
                raise exception 'targets: the entries of "%" on "%" are still being removed', name, v_target
                    using errcode = 'object_not_in_prerequisite_state', hint = 'Try again when freshet.status shows that target no more.';
            end if;
        end loop;
        perform freshet.grant_reading(o) from pg_catalog.unnest(v_next.reads) as o;
        perform freshet.grant_calling(v_relid, v_next);
        -- As whoever asks for a re-warm has it: before the leases.
        perform from freshet.sink s where s.id = v_sink.id for update;
        update freshet.sink s
        set key_parts = v_next.key_parts, folded_attnums = v_next.folded_attnums, order_attnums = v_next.order_attnums,
            column_attnums = v_next.column_attnums, value = v_next.value, value_type = v_next.value_type, transform = v_next.transform, grouped = v_next.grouped,
            filter = v_next.filter, expires = v_next.expires, expires_at = v_next.expires_at, accept_drift = v_next.accept_drift,
            reads = v_next.reads, calls = v_next.calls, targets = v_next.targets, broken = null, survey_after = null, notice = null,
            coverage = 'lazy', definition = s.definition + 1, revision = s.revision + 1
        where s.id = v_sink.id;
        perform freshet.watch_calls(v_sink.source_id);
        for v_target in select t from pg_catalog.unnest(v_sink.targets) as t where t <> all (targets) loop
            perform freshet.close_target(v_sink.id, v_target);
        end loop;
        for v_lease in
            insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
            select v_sink.id, 'sync', t, p.shard::text, freshet.cursor_now()::text, coalesce(alter_sink.adopt, false)
            from pg_catalog.unnest(targets) as t, pg_catalog.generate_series(0, v_sink.shards - 1) as p (shard)
            where t <> all (v_sink.targets)
            returning id
        loop
            perform freshet.enqueue_lease(v_lease);
        end loop;
        if v_next.order_attnums is distinct from v_sink.order_attnums or v_next.folded_attnums is distinct from v_sink.folded_attnums then
            perform freshet.restart_ranges(v_sink.id);
        end if;
        -- One that was given up, or removed everything and went back since, has what was written then.
        perform freshet.rewarm_target(v_sink.id, t, true)
        from pg_catalog.unnest(targets) as t
        where t <> all (v_sink.targets) and exists (select from freshet.removed r where r.sink_id = v_sink.id and r.target = t);
        if coalesce(backfill, true) then
            perform freshet.request_rewarm(v_sink.id, false);
            -- Entries of rows that have none any more.
            perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
        else
            -- Nor does one that is on its way make the sink whole: it began before. One that sets wrong entries right
            -- begins anew.
            perform freshet.cancel_backfill(b.id)
            from freshet.backfill_run b
            where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused') and not b.repairs;
            perform freshet.lock_ranges(v_sink.id);
            perform freshet.redo_ranges(b.id, null), freshet.add_targets(b.id)
            from freshet.backfill_run b
            where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused') and b.repairs;
        end if;
    elsif backfill is not null then
        raise exception 'backfill: it says what follows from a new definition, and nothing of that is given'
            using errcode = 'invalid_parameter_value', hint = pg_catalog.format('To write every entry again run: select freshet.backfill(%L);', name);
    end if;

    if adopt then
        -- In one order, like all who lock several.
        perform from freshet.lease l where l.sink_id = v_sink.id and l.kind = 'sync' order by l.id for update;
        update freshet.lease l set adopt = true where l.sink_id = v_sink.id and l.kind = 'sync' and not l.closing;
        update freshet.backfill_run b set sweeps = true
        where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused');
    end if;
    if shards <> v_sink.shards then
        perform freshet.recut(v_sink.id, shards);
    end if;
end
$$;

comment on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[])
is 'Changes a sink; what is left out stays as it is.';
revoke all on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[]) from public;

-- Whether all of these transactions, as freshet.holders_of has them, are autovacuum's. Others may not see
-- what a backend is, but that it is in a database and nobody's.
create or replace function freshet.are_vacuums(holders text[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(pg_catalog.bool_and(exists (
        select from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
        where l.virtualtransaction = h and a.usesysid is null and a.datid is not null)), false)
    from pg_catalog.unnest(holders) as h
$$;

revoke all on function freshet.are_vacuums(text[]) from public;

-- Writes the entry of every row of a sink's source, or of those that a filter selects, at
-- no more than `rate` rows a second. Returns the number of the backfill, as in the view
-- backfills.
create or replace function freshet.backfill(sink text, filter text default null, rate integer default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_relid  oid;
    v_run    bigint;
begin
    v_sink := freshet.find_sink(sink);
    perform freshet.check_owner(v_sink.id);
    perform freshet.check_rate('rate', rate);
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    if v_relid is null or v_sink.broken is not null then
        raise exception 'sink: nothing can be written for "%": %', sink, coalesce(v_sink.broken, 'its source is gone')
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform freshet.check_expression(v_relid, 'filter', filter, 'condition');
    v_run := freshet.request_backfill(v_sink.id, 'user', filter, rate, filter is null);
    if (select b.created_at < pg_catalog.transaction_timestamp() from freshet.backfill_run b where b.id = v_run) then
        raise notice 'backfill % is not at its end yet: what it had written is written again', v_run;
    end if;
    return v_run;
end
$$;

comment on function freshet.backfill(text, text, integer)
is 'Writes the entry of every row of the sink''s source, or of those that a filter selects. Returns the number of the backfill, as in the view backfills.';
revoke all on function freshet.backfill(text, text, integer) from public;

-- Whether the range of this lease may be worked on: 'go'; 'wait', while its lanes have not
-- written their control keys, which they do when nothing stands in the way of writing;
-- 'park', when somebody has to do something first; 'end', when its backfill is
-- cancelled or another range does it over again.
create or replace function freshet.backfill_turn(lease bigint)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when b.state = 'cancelled' or r.superseded then 'end'
        when s.state <> 'active' or s.broken is not null or b.state = 'paused' then 'park'
        when not lanes.stamped then 'wait'
        else 'go' end
    from freshet.backfill_range r
    join freshet.backfill_run b on b.id = r.run_id
    join freshet.lease l on l.id = r.lease_id
    join freshet.sink s on s.id = l.sink_id
    cross join lateral (
        select coalesce(pg_catalog.bool_and(a.stamped and a.blocked is null and a.blocked_by is null), false) as stamped
        from freshet.lease a
        where a.sink_id = l.sink_id and a.target = l.target and a.kind = 'sync') lanes
    where r.lease_id = backfill_turn.lease
$$;

revoke all on function freshet.backfill_turn(bigint) from public;

-- The type at the bottom of a domain, or the type itself.
create or replace function freshet.base_type(type oid)
returns oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive down (oid, typbasetype) as (
        select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = base_type.type
        union all
        select t.oid, t.typbasetype from pg_catalog.pg_type t join down d on t.oid = d.typbasetype
    )
    select d.oid from down d where d.typbasetype = 0
$$;

revoke all on function freshet.base_type(oid) from public;

-- Notes that a lane has its control key, after a copy of this database had it.
create or replace function freshet.beat_rival(lease bigint, epoch bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.lease l
    set rival = null,
        rivalries = case when l.rivalry_at > pg_catalog.clock_timestamp() - interval '10 minutes' then least(l.rivalries, 100) else 0 end + 1,
        rivalry_at = pg_catalog.clock_timestamp()
    where l.id = beat_rival.lease and l.epoch = beat_rival.epoch
$$;

revoke all on function freshet.beat_rival(bigint, bigint) from public;

-- A tuple of a sink's order columns as SQL: '7'::bigint, 'x'::text. Who runs it pins the
-- settings that touch_keys does.
create or replace function freshet.bound(sink integer, tuple text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.string_agg(
        pg_catalog.format('%L::%s', tuple[o.n],
            case when o.attnum = any (s.folded_attnums) then 'pg_catalog.text'
                else pg_catalog.format_type(a.atttypid, a.atttypmod) end), ', ' order by o.n)
    from freshet.sink s
    cross join lateral pg_catalog.unnest(s.order_attnums) with ordinality as o (attnum, n)
    join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.source_id) and a.attname = 'k' || o.attnum
    where s.id = bound.sink
$$;

revoke all on function freshet.bound(integer, text[]) from public;

-- The functions that a parsed expression calls, by themselves or as operators. No pattern here
-- or elsewhere has a backslash, which is none where standard_conforming_strings is off.
create or replace function freshet.called(tree text)
returns setof oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select m[1]::oid from pg_catalog.regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') as m
    union
    select o.oprcode::oid from pg_catalog.regexp_matches(tree, ':opno ([0-9]+)', 'g') as m
    join pg_catalog.pg_operator o on o.oid = m[1]::oid
$$;

revoke all on function freshet.called(text) from public;

-- Ends a backfill before its end, but for a re-warm of entries that may be wrong. What it has written
-- stays, and is right; each range's holder looks a last time at what changed while its last chunk was
-- written.
create or replace function freshet.cancel_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run := freshet.find_backfill(id);
begin
    if v_run.repairs then
        raise exception 'id: backfill % sets entries right that may be wrong, and is not cancelled', v_run.id
            using errcode = 'object_not_in_prerequisite_state',
                  hint = pg_catalog.format('To have it wait run: select freshet.pause_backfill(%s);', v_run.id);
    end if;
    update freshet.backfill_run b
    set state = 'cancelled', finished_at = pg_catalog.clock_timestamp()
    where b.id = v_run.id;
    -- What was lost before a re-warm, or never written before the first backfill, is not
    -- there now.
    update freshet.sink s
    set revision = s.revision + 1,
        coverage = case when v_run.needed then 'lazy' else s.coverage end
    where s.id = v_run.sink_id;
    perform freshet.unpark(array[v_run.id]);
end
$$;

comment on function freshet.cancel_backfill(bigint) is 'Ends a backfill before its end. What it has written stays.';
revoke all on function freshet.cancel_backfill(bigint) from public;

-- The text itself if it is what the type would print for it, else null: '7' for an
-- integer, but not '07', and not 'x'. Under the settings that keys are rendered with.
create or replace function freshet.canonical(value text, type text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_printed  text;
begin
    execute pg_catalog.format('select ($1::%s)::pg_catalog.text', type) into v_printed using value;
    return case when v_printed = value then value end;
exception
    -- Whatever a type, or the check of a domain, says of a text that is none of its own.
    when data_exception or syntax_error_or_access_rule_violation or integrity_constraint_violation
        or program_limit_exceeded or feature_not_supported or raise_exception then
        return null;
end
$$;

revoke all on function freshet.canonical(text, text) from public;

-- The type under which a key column is kept in the change table: wide enough that a
-- column which grows (integer to bigint, varchar(5) to varchar(50)) never makes
-- capture fail. Whole numbers of any width print and compare the same.
create or replace function freshet.change_type(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when base in (21, 23) then 'bigint'
        when base = 1043 then 'text'
        else freshet.type_name(base)
    end
    from (select freshet.base_type(type) as base) b
$$;

revoke all on function freshet.change_type(oid) from public;

-- The newest captured changes of a source, with their key columns by name.
create or replace function freshet.changes_of(source integer, newest integer)
returns table (xid xid8, id bigint, at timestamptz, op "char", key jsonb)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_key  text;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        return;
    end if;
    select pg_catalog.string_agg(pg_catalog.format('%L, t.k%s', a.attname, k.attnum), ', ' order by k.attnum) into v_key
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
    where s.id = changes_of.source;
    return query execute pg_catalog.format(
        'select c.xid, c.id, c.at, c.op, case when c.op <> ''t'' then pg_catalog.jsonb_build_object(%s) end '
        'from (select * from freshet.%I c order by c.xid desc, c.id desc limit $1) as c cross join lateral %s as t '
        'order by c.xid desc, c.id desc limit $1', v_key, 'changes_' || source, freshet.tuples_of(source))
    using newest;
end
$$;

revoke all on function freshet.changes_of(integer, integer) from public;

-- Checks what says which entries a sink has and what they are, and returns it as far as it
-- follows from the arguments: a row of freshet.sink that is not one yet. `self` is the sink
-- that is to be changed, null for a new one. Without targets it shares its keys with nobody.
create or replace function freshet.check_definition(
    source        oid,
    key           text,
    columns       text[],
    value         text,
    transform     text,
    filter        text,
    expires       interval,
    expires_at    text,
    accept_drift  boolean,
    targets       text[],
    self          integer)
returns freshet.sink
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink        freshet.sink;
    v_missing     text;
    v_what        text;
    v_drifts      boolean;
    v_expression  record;
    v_pure        record;
begin
    if accept_drift is null then
        raise exception 'accept_drift: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    if columns is not null and value is not null then
        raise exception 'columns: value says what the entry is already' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if transform is not null and value is not null then
        raise exception 'transform: value says what the entry is already' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if pg_catalog.btrim(transform, E' \t\n\r') = '' then
        raise exception 'transform: it is empty' using errcode = 'invalid_parameter_value',
            hint = 'Leave transform out, or give an expression such as {id: record.id, name: upper(record.name)}.';
    end if;
    if transform like 'go:%' and transform !~ '^go:[a-z][a-z0-9_]{0,47}$' then
        raise exception 'transform: "%" names no function of Go', transform using errcode = 'invalid_parameter_value',
            hint = 'Write go:name, with the name that a worker registers; names begin with a lower-case letter and go on with up to 47 lower-case letters, digits and underscores.';
    end if;
    if expires <> interval '0' and expires_at is not null then
        raise exception 'expires: expires_at says already when an entry expires' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if expires < interval '0' then
        raise exception 'expires: % is negative', expires using errcode = 'invalid_parameter_value',
            hint = 'Give how long an entry lives after it was written; leave expires out for ever.';
    end if;
    if expires > interval '200 years' then
        raise exception 'expires: % is more than 200 years', expires using errcode = 'invalid_parameter_value',
            hint = 'Leave expires out for entries that live for ever.';
    end if;
    expires := nullif(expires, interval '0');
    if targets is not null then
        perform freshet.check_targets(targets);
    end if;

    -- The key.
    if key is null then
        key := freshet.default_key(source);
    end if;
    v_sink.key_parts := freshet.parse_key(key);
    select pg_catalog.string_agg(pg_catalog.format('"%s"', p ->> 'column'), ', ') into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = p ->> 'column' and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'key: % has no column %', source::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    select pg_catalog.array_agg(distinct a.attnum order by a.attnum) into v_sink.key_attnums
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = p ->> 'column';
    if v_sink.key_attnums is null then
        raise exception 'key: the template "%" names no column, so all rows would share one key', key
            using errcode = 'invalid_parameter_value', hint = 'Write ${column} for a column of the source.';
    end if;
    v_sink.key_parts := freshet.key_by_attnum(source, v_sink.key_parts);
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column' and freshet.prints_names((p ->> 'type')::oid);
    if v_missing is not null then
        raise exception 'key: ${%} prints names, so its text can change when no row does', v_missing
            using errcode = 'invalid_parameter_value',
                  hint = 'Use a column of type oid or text.';
    end if;
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) as p
    where p ? 'column'
    group by p ->> 'column'
    having count(distinct p -> 'modifiers' ? 'lower') > 1;
    if v_missing is not null then
        raise exception 'key: ${%} stands there with |lower and without', v_missing
            using errcode = 'invalid_parameter_value';
    end if;
    -- An index that makes a key unique later does not make another value of an aggregate.
    v_sink.grouped := exists (
        select from freshet.sink s join freshet.source o on o.id = s.source_id
        where s.id = self and s.grouped and s.value = check_definition.value
          and o.relid = check_definition.source and freshet.named_key(o.relid, s.key_parts) = v_sink.key_parts);
    if not v_sink.grouped then
        v_sink.order_attnums := freshet.walk_index(source, v_sink.key_parts, false);
        if v_sink.order_attnums is null and value is null then
            perform freshet.refuse_key(source, key, v_sink.key_attnums);
        end if;
        v_sink.grouped := v_sink.order_attnums is null;
    end if;
    if v_sink.grouped then
        v_sink.order_attnums := freshet.walk_index(source, v_sink.key_parts, true);
        if v_sink.order_attnums is null then
            perform freshet.refuse_group(source, key, v_sink.key_parts);
        end if;
    end if;
    perform freshet.check_key(v_sink.key_parts);
    perform freshet.check_overlap(v_sink.key_parts, targets, self);

    -- The value: the columns there are now, so that a later one does not leak. An expression
    -- can use any.
    select pg_catalog.string_agg(pg_catalog.format('"%s"', c.name), ', ') into v_missing
    from pg_catalog.unnest(columns) as c (name)
    where columns <> '{*}' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'columns: % has no column %', source::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    if columns = '{*}' or value is not null then
        v_sink.column_attnums := null;
    elsif columns is null then
        select pg_catalog.array_agg(a.attnum order by a.attnum) into v_sink.column_attnums
        from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attnum > 0 and not a.attisdropped;
    else
        select pg_catalog.array_agg(a.attnum order by c.n) into v_sink.column_attnums
        from pg_catalog.unnest(columns) with ordinality as c (name, n)
        join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = c.name;
        if v_sink.column_attnums is null then
            raise exception 'columns: the list is empty' using errcode = 'invalid_parameter_value',
                hint = case when self is null then 'Leave columns out to take all of them.'
                    else 'Give columns => with those that an entry is to have, or reset => ''{columns}'' for all that there are now.' end;
        end if;
        if (select count(distinct c) < count(*) from pg_catalog.unnest(columns) as c) then
            raise exception 'columns: a column is named twice' using errcode = 'duplicate_column';
        end if;
    end if;

    v_what := case when v_sink.grouped then 'group' else 'row' end;
    v_drifts := accept_drift or expires is not null or expires_at is not null;
    perform freshet.check_expression(source, 'filter', filter, 'condition');
    v_sink.value_type := freshet.check_expression(source, 'value', value, v_what);
    perform freshet.check_moment(source, expires_at, v_what);
    v_sink.reads := '{}';
    v_sink.calls := '[]';
    for v_expression in
        select e.argument, e.sql, e.what
        from (values ('filter', filter, 'condition'), ('value', value, v_what), ('expires_at', expires_at, v_what)) as e (argument, sql, what)
    loop
        v_pure := freshet.check_purity(source, v_expression.argument, v_expression.sql, v_expression.what, v_drifts);
        v_sink.reads := v_sink.reads || v_pure.reads;
        v_sink.calls := v_sink.calls || v_pure.calls;
    end loop;
    select coalesce(pg_catalog.array_agg(distinct o), '{}') into v_sink.reads from pg_catalog.unnest(v_sink.reads) as o;

    v_sink.key := key;
    v_sink.folded_attnums := freshet.folded(source, v_sink.key_parts);
    v_sink.value := value;
    v_sink.transform := transform;
    v_sink.filter := filter;
    v_sink.expires := expires;
    v_sink.expires_at := expires_at;
    v_sink.accept_drift := accept_drift;
    v_sink.targets := targets;
    return v_sink;
end
$$;

revoke all on function freshet.check_definition(oid, text, text[], text, text, text, interval, text, boolean, text[], integer) from public;

-- Plans an expression over the row of a source as the workers will run it, with the
-- table's name as its alias, and returns its base type. What for:
--
--   condition  true or false for each row
--   row        one value for each row
--   group      one value for all rows that share a key: an aggregate
create or replace function freshet.check_expression(source oid, argument text, expression text, what text)
returns oid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   record;
    v_path    text := pg_catalog.current_setting('search_path');
    v_state   text;
    v_message text;
    v_frame   text;
    v_plan    refcursor;
    v_type    oid;
begin
    if expression is null then
        return null;
    end if;
    if pg_catalog.btrim(expression, E' \t\n\r') = '' then
        raise exception '%: it is empty', argument using errcode = 'invalid_parameter_value',
            hint = case what when 'condition' then pg_catalog.format('Leave %s out to take every row.', argument)
                else pg_catalog.format('Leave %s out, or give an expression.', argument) end;
    end if;
    select n.nspname, c.relname into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;

    begin
        perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
        -- Where no parenthesis is open the expression cannot close one: what fits into both
        -- frames stays inside the second, which is the workers'. And a cursor takes one
        -- statement only. Where a row makes a value, no aggregate can stand in a condition.
        foreach v_frame in array case what
            when 'condition' then array[
                E'where case when\n%3$s\nthen true end',
                E'where ((\n%3$s\n)) is true']
            when 'row' then array[
                E'where case when true then\n%3$s\nend is null',
                E'where ((\n%3$s\n)) is null']
            else array[
                E'group by () having case when true then\n%3$s\nend is null',
                E'group by () having ((\n%3$s\n)) is null'] end
        loop
            open v_plan for execute pg_catalog.format('explain select from %1$I.%2$I as %2$I ' || v_frame, v_class.nspname, v_class.relname, expression);
            close v_plan;
        end loop;
        -- Nothing is evaluated: there is no row.
        execute pg_catalog.format(E'select pg_catalog.pg_typeof((select ((\n%3$s\n)) from %1$I.%2$I as %2$I where false%4$s))::oid',
            v_class.nspname, v_class.relname, expression, case when what = 'group' then ' group by () having false' else '' end)
        into v_type;
        perform pg_catalog.set_config('search_path', v_path, true);
    exception when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        v_message := case
            when v_message like 'argument of % must be type boolean%' then 'it must be a condition, true or false for each row'
            when v_message like 'aggregate functions are not allowed%' then
                'it has an aggregate, and each row has a key and an entry of its own'
            when v_message like 'window functions are not allowed%' then 'it has a window function, and an entry is made of the rows of its key only'
            when v_message like 'set-returning functions are not allowed%' then 'it must be one value, and it has a function that returns several'
            when v_message like '% must appear in the GROUP BY clause or be used in an aggregate function' then
                'several rows share a key, so it must be an aggregate over them: '
                || pg_catalog.replace(v_message, ' must appear in the GROUP BY clause or be used in an aggregate function', ' is in none')
            else v_message end;
        raise exception '%: %', argument, v_message
            using errcode = v_state, hint = freshet.column_hint(source);
    end;
    -- A domain is sent as what it is a domain of.
    return freshet.base_type(v_type);
end
$$;

revoke all on function freshet.check_expression(oid, text, text, text) from public;

-- Refuses templates in which two tuples could render the same key. One column may
-- contain any text. What stands before it must be told from what follows it, reading
-- from the left; what stands after it from what precedes it, reading from the right.
create or replace function freshet.check_key(parts jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_count   integer := pg_catalog.jsonb_array_length(parts);
    v_free    integer;      -- the part that can contain any text
    v_part    jsonb;
    v_next    jsonb;
    v_class   text;
    v_touch   text;         -- the character of the neighbour that has to end the column
    v_n       integer;
begin
    for v_n in 0 .. v_count - 1 loop
        v_part := parts -> v_n;
        continue when v_part ? 'text' or freshet.key_class((v_part ->> 'type')::oid, v_part -> 'modifiers') is not null;
        if v_free is not null then
            raise exception 'key: ${%} and ${%} can both contain any text, so that two rows could get the same key',
                parts -> v_free ->> 'column', v_part ->> 'column'
                using errcode = 'invalid_parameter_value',
                      hint = pg_catalog.format('Percent-encode one of them: ${%s|url}.', parts -> v_free ->> 'column');
        end if;
        v_free := v_n;
    end loop;

    for v_n in 0 .. v_count - 1 loop
        v_part := parts -> v_n;
        continue when v_part ? 'text' or v_n = v_free;
        v_class := freshet.key_class((v_part ->> 'type')::oid, v_part -> 'modifiers');
        if v_n < coalesce(v_free, v_count) then
            continue when v_n = v_count - 1;
            v_next := parts -> (v_n + 1);
            v_touch := pg_catalog.left(v_next ->> 'text', 1);
        else
            v_next := parts -> (v_n - 1);
            v_touch := pg_catalog.right(v_next ->> 'text', 1);
        end if;
        if v_touch is null or v_touch ~ ('[' || v_class || ']') then
            raise exception 'key: two rows could get the same key, for it does not show where ${%} begins or ends',
                v_part ->> 'column'
                using errcode = 'invalid_parameter_value',
                      hint = 'Put a character that it cannot contain, such as a colon, between it and its neighbour.';
        end if;
    end loop;
end
$body$;

revoke all on function freshet.check_key(jsonb) from public;

-- Refuses a table whose rows can change without a trigger of its own, saying why.
create or replace function freshet.check_kind(source oid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   pg_catalog.pg_class;
    v_schema  name;
    v_leaf    record;
    v_name    text := source::pg_catalog.regclass::text;
begin
    select * into v_class from pg_catalog.pg_class c where c.oid = check_kind.source;
    if not found then
        return;
    end if;
    select n.nspname into v_schema from pg_catalog.pg_namespace n where n.oid = v_class.relnamespace;
    if v_schema in ('freshet', 'pg_catalog', 'information_schema') then
        raise exception 'source: % belongs to the schema %, which cannot feed a sink', v_name, v_schema
            using errcode = 'wrong_object_type';
    elsif v_class.relispartition then
        raise exception 'source: % is a partition', v_name
            using errcode = 'wrong_object_type',
                  hint = pg_catalog.format('Name the partitioned table, %s.', pg_catalog.pg_partition_root(source)::text);
    elsif v_class.relkind not in ('r', 'p') then
        raise exception 'source: % is not a table', v_name
            using errcode = 'wrong_object_type',
                  hint = 'Name a table; views and foreign tables fire no triggers for their rows.';
    elsif v_class.relpersistence <> 'p' then
        raise exception 'source: % is a temporary or unlogged table, whose rows vanish without a trigger', v_name
            using errcode = 'wrong_object_type';
    elsif v_class.relkind = 'r' and exists (select from pg_catalog.pg_inherits i where source in (i.inhrelid, i.inhparent)) then
        raise exception 'source: % inherits from a table or is inherited from', v_name
            using errcode = 'wrong_object_type',
                  hint = 'Its unique indexes do not span the family, so that keys could clash. Partition the table instead.';
    end if;
    select c.oid::pg_catalog.regclass as name, c.relkind into v_leaf
    from freshet.partitions_of(source) p
    join pg_catalog.pg_class c on c.oid = p.relid
    where c.relkind = 'f' or c.relpersistence <> 'p'
    order by c.oid
    limit 1;
    if found then
        raise exception 'source: the partition % of % is %', v_leaf.name, v_name, case v_leaf.relkind
                when 'f' then 'a foreign table, whose rows change without a trigger' else 'unlogged, and its rows can vanish without a trigger' end
            using errcode = 'wrong_object_type';
    end if;
end
$$;

revoke all on function freshet.check_kind(oid) from public;

-- Refuses limits of a backlog that make no sense.
create or replace function freshet.check_limits(max_lag interval, max_pending bigint)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if max_lag is null or max_lag < interval '1 minute' then
        raise exception 'max_lag: % is shorter than a minute', coalesce(max_lag::text, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'It is how long a sink may be paused or away before its backlog is let go and it is warmed again.';
    end if;
    if max_pending < 1000 then
        raise exception 'max_pending: % is less than a thousand', max_pending
            using errcode = 'invalid_parameter_value', hint = 'Leave max_pending out for no limit.';
    end if;
end
$$;

revoke all on function freshet.check_limits(interval, bigint) from public;

-- Plans expires_at, which has to be a moment for each entry. `what` is as in check_expression.
create or replace function freshet.check_moment(source oid, expires_at text, what text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type  oid := freshet.check_expression(source, 'expires_at', expires_at, what);
begin
    if v_type <> all (array['timestamptz', 'timestamp', 'date']::pg_catalog.regtype[]) then
        raise exception 'expires_at: it must be a timestamp, and is of type %', v_type::pg_catalog.regtype
            using errcode = 'datatype_mismatch',
                  hint = 'For how long an entry lives after it was written, there is expires.';
    end if;
end
$$;

revoke all on function freshet.check_moment(oid, text, text) from public;

-- Refuses a template whose keys could also be those of another sink on the same
-- target: two writers of one key would overwrite each other for ever. `self` is left out, and
-- so are sinks that only remove what they have: until that is done, a worker that finds their
-- keys waits.
create or replace function freshet.check_overlap(parts jsonb, targets text[], self integer)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_other  record;
begin
    select s.name, s.key into v_other
    from freshet.sink s
    where s.targets && check_overlap.targets and s.id is distinct from self and s.state <> 'retiring'
      and freshet.keys_overlap(s.key_parts, parts)
    order by s.id
    limit 1;
    if found then
        raise exception 'key: the sink "%" writes the same keys already, or could: its key is "%"', v_other.name, v_other.key
            using errcode = 'duplicate_object',
                  hint = 'Begin the key with another prefix.';
    end if;
end
$body$;

revoke all on function freshet.check_overlap(jsonb, text[], integer) from public;

-- Refuses who does not own the source of a sink. A source that is gone anybody may
-- clear away.
create or replace function freshet.check_owner(sink integer)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner  oid;
    v_name   text;
begin
    select c.relowner, s.name into v_owner, v_name
    from freshet.sink s
    join freshet.source o on o.id = s.source_id
    left join pg_catalog.pg_class c on c.oid = o.relid
    where s.id = check_owner.sink;
    if not pg_catalog.pg_has_role(v_owner, 'usage') then
        raise exception 'name: only the owner of its source may do that with the sink "%"', v_name
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Run this as %I.', pg_catalog.pg_get_userbyid(v_owner));
    end if;
end
$$;

revoke all on function freshet.check_owner(integer) from public;

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

-- Refuses an expression of a sink that is more than a function of the rows of its entry.
-- What is volatile is always refused, in a view and in a default argument too; what is
-- stable, or reads another table, unless its drift is accepted. `what` is as in
-- check_expression. `reads` are the other tables, `calls` what users have made, as
-- [["schema", "function"], ["schema", "operator", "operator", "left", "right"], ["schema", "type", "type"]], and
-- ["", "", "row"] for whole rows: what is dropped and made again is the same.
--
-- Postgres says which functions an expression calls, how volatile they are, and what it
-- reads. Of functions that are stable, the ones in is_settled depend on nothing but settings
-- that are the same for every worker.
drop function if exists freshet.check_purity(oid, text, text, text, boolean);
create function freshet.check_purity(
    source      oid,
    argument    text,
    expression  text,
    what        text,
    drifts      boolean,
    out reads   oid[],
    out calls   jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_probe   record;
    v_tree    text;
    v_column  text;
    v_called  record;
    v_why     text;
    v_word    text;
begin
    reads := '{}';
    calls := '[]';
    if expression is null then
        return;
    end if;
    v_probe := freshet.probe(source, argument, expression, what);
    -- Postgres reads those once, when it reads the expression, and what it has read is a constant.
    foreach v_word in array '{now,today,tomorrow,yesterday}'::text[] loop
        continue when expression !~* ('''[^'']*[[:<:]]' || v_word || '[[:>:]][^'']*''');
        begin
            perform freshet.probe(source, argument,
                pg_catalog.regexp_replace(expression, '(''[^'']*)[[:<:]]' || v_word || '[[:>:]]([^'']*'')', E'\\1freshet\\2', 'gi'), what);
        exception when invalid_datetime_format then
            raise exception '%: ''%'' is the time at which the expression is read, and stays what it was then', argument, v_word
                using errcode = 'invalid_parameter_value', hint = 'Say current_date or now(), which needs expires or accept_drift => true.';
        when others then
            null; -- It was no literal of that kind.
        end;
    end loop;
    v_tree := v_probe.tree || ' ' || v_probe.behind;
    select a.attname into v_column
    from pg_catalog.regexp_matches(v_probe.tree, ':varattno (-[0-9]+) ', 'g') as m
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attnum = m[1]::smallint
    -- The one that stays is tableoid.
    where a.attname in ('ctid', 'xmin', 'xmax', 'cmin', 'cmax')
    limit 1;
    if found then
        raise exception '%: it uses %, which changes when the row does not', argument, v_column
            using errcode = 'invalid_parameter_value', hint = 'Leave it out, or use a column of the table.';
    end if;
    if v_tree like '%{ROWMARKCLAUSE %' then
        raise exception '%: it locks rows, and workers only read', argument
            using errcode = 'invalid_parameter_value', hint = 'Leave out the for update or for share.';
    end if;

    for v_called in
        select p.oid, p.proname, p.provolatile, p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace as ours
        from freshet.called(v_tree) as c (oid)
        join pg_catalog.pg_proc p on p.oid = c.oid
        where p.provolatile = 'v' or p.provolatile = 's' and not freshet.is_settled(p.oid)
        order by p.provolatile desc, p.proname
    loop
        if v_called.provolatile = 'v' then
            raise exception '%: %() is volatile, so that the same row would make another value each time', argument, v_called.proname
                using errcode = 'invalid_parameter_value',
                      hint = case when v_called.ours then 'Leave it out, or compute it when the row is written.'
                          else pg_catalog.format('If it is not, say so: alter function %s immutable;', v_called.oid::pg_catalog.regprocedure) end;
        end if;
        v_why := coalesce(v_why, pg_catalog.format('%s() can change its answer when no row changes', v_called.proname));
    end loop;
    if v_why is null and v_tree like '%{SQLVALUEFUNCTION %' then
        v_why := 'it asks for the time or the user, which change when no row does';
    end if;

    select coalesce(pg_catalog.array_agg(distinct r.relid) filter (where r.relid <> source), '{}'),
           coalesce(v_why, case
               when count(*) filter (where r.relid <> source) > 0 then
                   pg_catalog.format('it reads %s, and nothing here tells when that changes', min(r.relid::pg_catalog.regclass::text) filter (where r.relid <> source))
               when count(*) filter (where r.relid = source) > 1 then
                   pg_catalog.format('it reads other rows of %s, whose changes touch other entries', source::pg_catalog.regclass) end)
    into reads, v_why
    from (select m[1]::oid as relid from pg_catalog.regexp_matches(v_probe.tree, ':rtekind 0 :relid ([0-9]+)', 'g') as m) r
    where r.relid <> 0;
    if v_why is not null and not drifts then
        raise exception '%: %', argument, v_why
            using errcode = 'invalid_parameter_value',
                  hint = 'Give expires, for how long an entry may be as it was, or say accept_drift => true.';
    end if;
    -- What comes with Postgres does not change.
    select coalesce(pg_catalog.jsonb_agg(c.call), '[]') into calls
    from (
        select pg_catalog.jsonb_build_array(n.nspname, p.proname) as call
        from freshet.called(v_tree) as c (oid)
        join pg_catalog.pg_proc p on p.oid = c.oid
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where c.oid >= 16384
        union
        select pg_catalog.jsonb_build_array(n.nspname, o.oprname, 'operator',
                   coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprleft), ''),
                   coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprright), ''))
        from pg_catalog.regexp_matches(v_tree, ':opno ([0-9]+)', 'g') as m
        join pg_catalog.pg_operator o on o.oid = m[1]::oid
        join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
        where o.oid >= 16384
        union
        select pg_catalog.jsonb_build_array(n.nspname, t.typname, 'type')
        from pg_catalog.unnest(v_probe.types) as d
        join pg_catalog.pg_type t on t.oid = d
        join pg_catalog.pg_namespace n on n.oid = t.typnamespace
        union
        -- Whoever has a value made of whole rows says when more columns are to make it again.
        select '["", "", "row"]'
        where argument <> 'value' and v_probe.tree ~ ':varattno 0 ') c;
end
$$;

revoke all on function freshet.check_purity(oid, text, text, text, boolean) from public;

-- Refuses a number of rows a second that nothing could be done at.
create or replace function freshet.check_rate(argument text, rate integer)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if rate < 1 then
        raise exception '%: % rows a second is no rate', argument, rate
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Leave %s out for no limit.', argument);
    end if;
end
$$;

revoke all on function freshet.check_rate(text, integer) from public;

-- Refuses what a sink cannot do when columns of its source change.
create or replace function freshet.check_schema_change(on_schema_change text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if on_schema_change is null or on_schema_change not in ('rewarm', 'notice') then
        raise exception 'on_schema_change: it is neither "rewarm" nor "notice" but "%"', coalesce(on_schema_change, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'rewarm: entries are written again by themselves; notice: the view sinks says that they should be.';
    end if;
end
$$;

revoke all on function freshet.check_schema_change(text) from public;

-- Refuses a number of shards that makes no sense.
create or replace function freshet.check_shards(shards integer)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if shards is null or shards not between 1 and 64 then
        raise exception 'shards: % is not between 1 and 64', coalesce(shards::text, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'One shard keeps up with most tables; more let several workers share the changes of one sink.';
    end if;
end
$$;

revoke all on function freshet.check_shards(integer) from public;

-- Refuses what cannot feed a sink, saying why.
create or replace function freshet.check_source(source oid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   pg_catalog.pg_class;
    v_role    oid;
    v_leaf    record;
    v_name    text := source::pg_catalog.regclass::text;
begin
    select * into v_class from pg_catalog.pg_class c where c.oid = check_source.source;
    if not found then
        raise exception 'source: there is no table with oid %', source using errcode = 'undefined_table';
    end if;
    perform freshet.check_kind(source);
    if not pg_catalog.pg_has_role(v_class.relowner, 'usage') then
        raise exception 'source: only the owner of % can create a sink on it', v_name
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Run this as %I.', pg_catalog.pg_get_userbyid(v_class.relowner));
    end if;

    -- The triggers of a partitioned table are made on each partition.
    select c.oid, c.relowner into v_leaf
    from freshet.partitions_of(source) p
    join pg_catalog.pg_class c on c.oid = p.relid
    where not pg_catalog.pg_has_role(c.relowner, 'usage')
    order by c.oid
    limit 1;
    if found then
        raise exception 'source: the partition % of % belongs to "%"',
            v_leaf.oid::pg_catalog.regclass, v_name, pg_catalog.pg_get_userbyid(v_leaf.relowner)
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Have a superuser run: alter table %s owner to %I;',
                      v_leaf.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(v_class.relowner));
    end if;

    -- Of the workers that run now, if there are any; else of those that may.
    for v_role in
        select pg_catalog.to_regrole(pg_catalog.quote_ident(w.role))
        from freshet.worker w
        where w.heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds'
        union
        select coalesce(pg_catalog.to_regrole('freshet_worker'), pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)))
        where not exists (
            select from freshet.worker w where w.heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds')
    loop
        perform freshet.check_visible(source, v_role);
    end loop;
end
$$;

revoke all on function freshet.check_source(oid) from public;

-- Refuses a list of targets that cannot be served.
create or replace function freshet.check_targets(targets text[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  text;
begin
    if coalesce(pg_catalog.cardinality(targets), 0) = 0 then
        raise exception 'targets: the list is empty' using errcode = 'invalid_parameter_value',
            hint = 'Leave targets out for the target "default".';
    end if;
    foreach v_target in array targets loop
        if v_target is null or v_target !~ '^[a-z][a-z0-9_]{0,47}$' then
            raise exception 'targets: "%" is not the name of a target', v_target
                using errcode = 'invalid_parameter_value',
                      hint = 'A target is named as in the worker''s environment: FRESHET_REDIS_URL_EU is the target "eu".';
        end if;
    end loop;
    if (select count(distinct t) < count(*) from pg_catalog.unnest(targets) as t) then
        raise exception 'targets: a target is named twice' using errcode = 'invalid_parameter_value';
    end if;
end
$$;

revoke all on function freshet.check_targets(text[]) from public;

-- Refuses to go on if row security could hide rows of a source from a role, this one by
-- default: a hidden row would look like a deleted one. Returns an empty text. Called in the
-- statement that reads the source, or under a lock on it: policies then stay as they are.
create or replace function freshet.check_visible(source oid, role oid default null)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role  oid := coalesce(role, pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)));
begin
    if freshet.hides_rows(source, v_role) then
        raise exception 'source: row security could hide rows of % from the role %, which would look like deletes',
            source::pg_catalog.regclass, v_role::pg_catalog.regrole
            using errcode = 'insufficient_privilege',
                  hint = case when exists (
                          select from pg_catalog.pg_policy p
                          where p.polrelid = check_visible.source and not p.polpermissive and p.polcmd in ('r', '*')
                            and exists (select from pg_catalog.unnest(p.polroles) as r (oid)
                                        where r.oid = 0 or pg_catalog.pg_has_role(v_role, r.oid, 'usage')))
                      then pg_catalog.format('A restrictive policy applies to it: have that policy name other roles, then run: ')
                      else 'Run: ' end
                      || pg_catalog.format('create policy freshet on %s for select to %s using (true);',
                          source::pg_catalog.regclass, v_role::pg_catalog.regrole);
    end if;
    return '';
end
$$;

revoke all on function freshet.check_visible(oid, oid) from public;

-- Has a sink's entries removed from one target while its source is written to. Its lanes go
-- on, and remove the entry of each tuple that changes: so whatever is still there is right.
-- Meanwhile a purge removes everything, and then ends the lanes. Who calls it raises the
-- sink's definition.
create or replace function freshet.close_target(sink integer, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  record;
begin
    -- In one order, like all who lock several.
    perform from freshet.lease l where l.sink_id = close_target.sink and l.target = close_target.target order by l.id for update;
    update freshet.backfill_range r set superseded = true
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = close_target.sink and l.target = close_target.target and r.finished_at is null;
    perform freshet.unpark((
        select pg_catalog.array_agg(distinct r.run_id)
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where l.sink_id = close_target.sink and l.target = close_target.target and r.parked));
    delete from freshet.lease l
    where l.sink_id = close_target.sink and l.target = close_target.target and l.kind = 'sweep' and l.finished_at is null;
    perform freshet.finish_sweeps(close_target.sink);
    delete from freshet.failure f where f.sink_id = close_target.sink and f.target = close_target.target;
    for v_lease in
        update freshet.lease l
        set closing = true, adopt = false, lapsed = false
        where l.sink_id = close_target.sink and l.target = close_target.target and l.kind = 'sync'
        returning l.id, l.epoch
    loop
        perform freshet.release_lease(v_lease.id, v_lease.epoch);
    end loop;
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (close_target.sink, 'purge', close_target.target, 'purge', '')
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease.id);
end
$$;

revoke all on function freshet.close_target(integer, text) from public;

-- What to say after an unknown column.
create or replace function freshet.column_hint(source oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select 'Its columns are: ' || pg_catalog.string_agg(a.attname, ', ' order by a.attnum) || '.'
    from pg_catalog.pg_attribute a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped
$$;

revoke all on function freshet.column_hint(oid) from public;

-- Has this transaction wait for the disk when it commits, whatever the session says: what a target is
-- told next must not be forgotten by a crash.
create or replace function freshet.commit_to_disk()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.current_setting('synchronous_commit') = 'off' then
        perform pg_catalog.set_config('synchronous_commit', 'local', true);
    end if;
end
$$;

revoke all on function freshet.commit_to_disk() from public;

-- Lets a backfill that is paused go on.
create or replace function freshet.continue_backfill(run bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.backfill_run b
    set state = case when b.started_at is null then 'queued' else 'running' end,
        counted_from = case when b.started_at is not null then pg_catalog.clock_timestamp() end,
        counted_rows = b.rows_done + (select coalesce(sum(r.rows_done), 0) from freshet.backfill_range r where r.run_id = b.id)
    where b.id = continue_backfill.run and b.state = 'paused';
    if found then
        update freshet.sink s set revision = s.revision + 1
        where s.id = (select b.sink_id from freshet.backfill_run b where b.id = continue_backfill.run);
        perform freshet.unpark(array[continue_backfill.run]);
    end if;
end
$$;

revoke all on function freshet.continue_backfill(bigint) from public;

-- Lets a sink go on that was stopped so. Where somebody else did, nothing happens.
create or replace function freshet.continue_failing(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.sink s
    set state = 'active', failing = null, revision = s.revision + 1
    where s.id = continue_failing.sink and s.state = 'failing';
end
$$;

revoke all on function freshet.continue_failing(integer) from public;

-- Creates a sink: checks every argument, sets up capture on the source, makes the
-- lanes and their jobs, and enqueues the first backfill.
create or replace function freshet.create_sink(
    name              text,
    source            regclass,
    key               text default null,
    columns           text[] default null,
    value             text default null,
    transform         text default null,
    filter            text default null,
    expires           interval default null,
    expires_at        text default null,
    targets           text[] default '{default}',
    shards            integer default 1,
    capture           text default 'trigger',
    backfill          boolean default true,
    adopt             boolean default false,
    accept_drift      boolean default false,
    on_schema_change  text default 'rewarm',
    max_lag           interval default '24 hours',
    max_pending       bigint default null,
    max_rate          integer default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   freshet.source;
    v_sink     freshet.sink;
    v_lease    bigint;
    v_made     boolean := false;
    v_altered  boolean := false;
begin
    perform freshet.refuse_later('capture', capture is distinct from 'trigger');

    if name is null or name !~ '^[a-z][a-z0-9_]{0,47}$' then
        raise exception 'name: "%" is not a sink name', name
            using errcode = 'invalid_parameter_value',
                  hint = 'Begin with a lower-case letter and go on with lower-case letters, digits and underscores, 48 at most.';
    end if;
    if source is null then
        raise exception 'source: name the table that feeds the sink' using errcode = 'invalid_parameter_value';
    end if;
    if adopt is null then
        raise exception 'adopt: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    if backfill is null then
        raise exception 'backfill: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    perform freshet.check_shards(shards);
    perform freshet.check_rate('max_rate', max_rate);
    perform freshet.check_limits(max_lag, max_pending);
    perform freshet.check_schema_change(on_schema_change);
    perform freshet.check_targets(targets);
    perform freshet.lock_definitions();
    if exists (select from freshet.sink s where s.name = create_sink.name) then
        raise exception 'name: there is a sink "%" already%', name,
            (select case s.state when 'dropping' then ', whose entries are still being removed' else '' end
             from freshet.sink s where s.name = create_sink.name)
            using errcode = 'duplicate_object';
    end if;
    perform freshet.check_source(source);

    v_sink := freshet.check_definition(source, key, columns, value, transform, filter, expires, expires_at,
        accept_drift, targets, null);

    -- From here on the source is locked against writers, for as long as this
    -- transaction takes, unless capture already has all that the sink needs.
    select * into v_source from freshet.source s where s.relid = create_sink.source;
    if not found or not v_sink.key_attnums <@ v_source.key_attnums then
        if found then
            perform freshet.lock_capture(v_source.id);
            select * into v_source from freshet.source s where s.relid = create_sink.source;
        end if;
        perform freshet.lock_source(source, 'share row exclusive', interval '10 seconds', true);
        v_altered := v_source.fingerprint is not null and freshet.is_altered(v_source.id);
        insert into freshet.source as s (relid, schema_name, table_name, key_attnums, floor)
        select c.oid, n.nspname, c.relname, v_sink.key_attnums, freshet.cursor_now()
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = create_sink.source
        on conflict (relid) do update
        set key_attnums = (
            select pg_catalog.array_agg(distinct u order by u)
            from pg_catalog.unnest(s.key_attnums || excluded.key_attnums) as u)
        returning * into v_source;
        perform freshet.make_capture(v_source.id);
        v_made := true;
    end if;
    perform freshet.grant_source(v_source.id);
    perform freshet.grant_reading(o) from pg_catalog.unnest(v_sink.reads) as o;
    perform freshet.grant_calling(source, v_sink);

    insert into freshet.sink (
        name, source_id, key, key_parts, key_attnums, folded_attnums, order_attnums, column_attnums, value, value_type,
        transform, grouped, filter, expires, expires_at, accept_drift, reads, calls, targets, shards, capture,
        on_schema_change, max_lag, max_pending, max_rate)
    values (
        create_sink.name, v_source.id, v_sink.key, v_sink.key_parts, v_sink.key_attnums, v_sink.folded_attnums,
        v_sink.order_attnums, v_sink.column_attnums, v_sink.value, v_sink.value_type,
        v_sink.transform, v_sink.grouped, v_sink.filter, v_sink.expires, v_sink.expires_at, v_sink.accept_drift, v_sink.reads, v_sink.calls,
        create_sink.targets, create_sink.shards, create_sink.capture,
        create_sink.on_schema_change, create_sink.max_lag, create_sink.max_pending, create_sink.max_rate)
    returning * into v_sink;

    -- The cursor is taken after the lock: what was captured by then, this very
    -- transaction's own later writes included, counts as not yet applied.
    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
        select v_sink.id, 'sync', t.target, p.shard::text, freshet.cursor_now()::text, create_sink.adopt
        from pg_catalog.unnest(targets) as t (target), pg_catalog.generate_series(0, shards - 1) as p (shard)
        returning id
    loop
        perform freshet.enqueue_lease(v_lease);
    end loop;

    -- Only what changes from here on is to be noticed. What was altered before, and nobody
    -- has looked after yet, other sinks of the source may have missed changes by.
    update freshet.source s
    set fingerprint = freshet.fingerprint(s.id)
        || case when s.fingerprint ? 'types' then pg_catalog.jsonb_build_object('types', s.fingerprint -> 'types', 'calls', s.fingerprint -> 'calls') else '{}' end
    where s.id = v_source.id and ((v_made and not v_altered) or s.fingerprint is null);
    perform freshet.watch_calls(v_source.id);

    if backfill then
        -- Among keys that are taken over there may be some without a row.
        perform freshet.request_backfill(v_sink.id, 'create', sweeps => adopt);
    end if;
end
$$;

comment on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer)
is 'Keeps an entry in Redis for each row of a table. Give at least name and source; see the README for every argument.';
revoke all on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer) from public;

-- A cursor that has passed nothing that is not finished yet: xmin:xmin: of the
-- present snapshot. A snapshot of one's own transaction counts one's own id as
-- visible, so the snapshot itself would hide what this transaction goes on to write.
create or replace function freshet.cursor_now()
returns pg_snapshot
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select (s.xmin || ':' || s.xmin || ':')::pg_catalog.pg_snapshot
    from (select pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text as xmin) s
$$;

revoke all on function freshet.cursor_now() from public;

-- users:${id} for public.users, billing.invoices:${tenant_id}:${id} elsewhere and
-- for composite keys.
create or replace function freshet.default_key(source oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_prefix  text;
    v_key     text;
begin
    select case when n.nspname = 'public' then c.relname else n.nspname || '.' || c.relname end into v_prefix
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;

    -- In a composite key, what can contain any text is percent-encoded: a colon in it
    -- would look like the next column.
    select pg_catalog.string_agg(
        case when i.indnkeyatts > 1 and freshet.key_class(freshet.base_type(a.atttypid), '[]') is null
            then pg_catalog.format('${%s|url}', a.attname)
            else pg_catalog.format('${%s}', a.attname) end, ':' order by k.n)
    into v_key
    from pg_catalog.pg_index i
    cross join lateral pg_catalog.unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts;
    if v_key is null then
        raise exception 'source: % has no primary key to make a key of', source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = 'Give key, a template such as ''users:${email}'' over the columns of a unique index.';
    end if;
    return pg_catalog.replace(v_prefix, '${', '$${') || ':' || v_key;
end
$body$;

revoke all on function freshet.default_key(oid) from public;

-- What create_sink would make of these arguments, checked as it checks them, without making
-- it; or, with a name alone, what the sink of that name was made of. The target stands for
-- any. A sink that has the name already is taken for an earlier form of this one; without a
-- name nobody asks whose keys these are.
create or replace function freshet.define(
    sink          text,
    source        regclass,
    key           text,
    columns       text[],
    value         text,
    transform     text,
    filter        text,
    expires       interval,
    expires_at    text,
    accept_drift  boolean)
returns freshet.sink
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink;
begin
    if source is null then
        if sink is null then
            raise exception 'source: name a table, or in sink a sink that there is' using errcode = 'invalid_parameter_value';
        elsif coalesce(key, value, transform, filter, expires_at) is not null or columns is not null or expires is not null then
            raise exception 'source: name the table for which the other arguments are' using errcode = 'invalid_parameter_value',
                hint = 'Without them this shows what the sink of that name makes.';
        end if;
        return freshet.find_sink(sink);
    end if;
    perform freshet.check_source(source);
    v_sink := freshet.check_definition(source, key, columns, value, transform, filter, expires, expires_at, accept_drift, case when sink is not null then '{default}'::text[] end,
        (select s.id from freshet.sink s where s.name = define.sink));
    v_sink.id := 0;
    v_sink.name := coalesce(sink, 'preview');
    v_sink.definition := 1;
    v_sink.revision := 1;
    v_sink.source_id := 0;
    v_sink.shards := 1;
    v_sink.state := 'active';
    v_sink.keep_entries := false;
    v_sink.coverage := 'lazy';
    return v_sink;
end
$$;

revoke all on function freshet.define(text, regclass, text, text[], text, text, text, interval, text, boolean) from public;

-- Whether a name has another value in the one object than in the other. Names that only one of
-- them has do not count.
create or replace function freshet.differs(was jsonb, now jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.jsonb_each(was) w join pg_catalog.jsonb_each(now) n on n.key = w.key
        where n.value <> w.value)
$$;

revoke all on function freshet.differs(jsonb, jsonb) from public;

-- Removes the capture of a source that no sink needs any more. Called under freshet.lock_capture.
create or replace function freshet.drop_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid  oid;
begin
    if exists (select from freshet.sink s where s.source_id = drop_capture.source and s.state <> 'dropping') then
        return;
    end if;
    select s.relid into v_relid from freshet.source s where s.id = drop_capture.source;
    if exists (select from pg_catalog.pg_class c where c.oid = v_relid) then
        perform freshet.lock_source(v_relid, 'access exclusive', interval '10 seconds', true);
        if pg_catalog.to_regrole('freshet_worker') is not null
            and not exists (select from freshet.sink s where v_relid = any (s.reads) and s.state <> 'dropping')
        then
            execute pg_catalog.format('revoke select on %s from freshet_worker', v_relid::pg_catalog.regclass);
        end if;
    end if;
    -- The triggers go with their function.
    execute pg_catalog.format('drop function if exists freshet.%I() cascade', 'capture_' || source);
    execute pg_catalog.format('drop function if exists freshet.%I(text, integer)', 'keep_' || source);
    execute pg_catalog.format('drop table if exists freshet.%I cascade', 'changes_' || source);
    delete from freshet.segment g where g.source_id = drop_capture.source;
    delete from freshet.capture_gap g where g.source_id = drop_capture.source;
    delete from freshet.noted_partition n where n.source_id = drop_capture.source;
    -- The row stays for sinks whose entries are still being removed; a new sink on
    -- the same table gets a source of its own.
    update freshet.source s set relid = null where s.id = drop_capture.source;
end
$$;

revoke all on function freshet.drop_capture(integer) from public;

-- Ends a sink. Capture that no other sink needs goes at once; a worker removes the
-- entries, and until then the sink is `dropping`.
create or replace function freshet.drop_sink(name text, keep_entries boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_lease  bigint;
begin
    perform freshet.lock_definitions();
    v_sink := freshet.find_sink(name);
    perform freshet.check_owner(v_sink.id);
    perform freshet.lock_capture(v_sink.source_id);

    -- Another definition and no leases: whoever still writes for this sink is refused
    -- as soon as the purge has stamped the control keys.
    update freshet.sink s
    set state = 'dropping', definition = s.definition + 1, revision = s.revision + 1, keep_entries = drop_sink.keep_entries
    where s.id = v_sink.id;
    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor)
        select v_sink.id, 'purge', t.target, 'purge', ''
        from pg_catalog.unnest(v_sink.targets) as t (target)
        returning id
    loop
        perform freshet.enqueue_lease(v_lease);
    end loop;

    perform freshet.drop_capture(v_sink.source_id);
end
$$;

comment on function freshet.drop_sink(text, boolean)
is 'Ends a sink and removes its entries from Redis, or leaves them there with keep_entries => true.';
revoke all on function freshet.drop_sink(text, boolean) from public;

-- Ends the lanes of a target from which a purge has removed everything: from here on nothing
-- is written. False if the purge's lease is no longer held under `epoch`.
create or replace function freshet.end_lanes(lease bigint, epoch bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  freshet.lease;
begin
    select * into v_lease from freshet.lease l where l.id = end_lanes.lease and l.epoch = end_lanes.epoch and l.kind = 'purge';
    if not found then
        return false;
    end if;
    perform from freshet.lease l where l.sink_id = v_lease.sink_id and l.target = v_lease.target order by l.id for update;
    -- One of an earlier number of shards had the same control key.
    delete from freshet.lease r
    using freshet.lease l
    where r.sink_id = v_lease.sink_id and r.target = v_lease.target and r.kind = 'retired'
      and l.sink_id = r.sink_id and l.target = r.target and l.part = r.part and l.kind = 'sync' and l.closing;
    update freshet.lease l
    set kind = 'retired', epoch = l.epoch + 1, holder = null, finished_at = pg_catalog.clock_timestamp()
    where l.sink_id = v_lease.sink_id and l.target = v_lease.target and l.kind = 'sync' and l.closing;
    return true;
end
$$;

revoke all on function freshet.end_lanes(bigint, bigint) from public;

-- Inserts a River job and wakes a worker at commit. River's own client sends its
-- notifications from Go; a job inserted by SQL would wait for the next poll.
create or replace function freshet.enqueue(kind text, queue text, args jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    -- One attempt: what has to run again is enqueued again, under a new epoch.
    insert into freshet.river_job (kind, queue, args, max_attempts)
    values (enqueue.kind, enqueue.queue, enqueue.args, 1)
    returning id into v_id;

    -- A transaction that has notified cannot be prepared.
    if pg_catalog.current_setting('max_prepared_transactions') = '0' then
        perform pg_catalog.pg_notify('freshet.river_insert',
            pg_catalog.json_build_object('queue', enqueue.queue)::text);
    end if;
    return v_id;
end
$$;

revoke all on function freshet.enqueue(text, text, jsonb) from public;

-- Enqueues the job that will take a lease under its present epoch.
create or replace function freshet.enqueue_lease(lease bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease     freshet.lease;
    v_function  text;
begin
    select * into strict v_lease from freshet.lease l where l.id = enqueue_lease.lease for update;
    select freshet.function_for(s, v_lease) into v_function from freshet.sink s where s.id = v_lease.sink_id;

    update freshet.lease l
    set job_id = freshet.enqueue(
        case when v_lease.kind in ('sync', 'backfill') then v_lease.kind else 'maintain' end,
        coalesce(freshet.queue_of(v_lease.offered_to), freshet.queue_for(v_lease.kind, v_lease.target, v_function)),
        pg_catalog.jsonb_build_object('lease', v_lease.id, 'epoch', v_lease.epoch))
    where l.id = v_lease.id;
end
$$;

revoke all on function freshet.enqueue_lease(bigint) from public;

-- How many rows the planner expects in a table, or expects a filter to select; with terms,
-- how many different ones. Nothing is counted.
create or replace function freshet.estimate_rows(source oid, filter text default null, terms text[] default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class  record;
    v_plan   json;
begin
    select n.nspname, c.relname into strict v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    execute pg_catalog.format(E'explain (format json) select %4$s from %1$I.%2$I as %2$I where ((\n%3$s\n))',
        v_class.nspname, v_class.relname, coalesce(filter, 'true'), 'distinct ' || pg_catalog.array_to_string(terms, ', '))
    into v_plan;
    return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end
$$;

revoke all on function freshet.estimate_rows(oid, text, text[]) from public;

-- Between which tuples of a sink's order columns the rows are that a filter selects:
-- (lower, upper]. Asked only where an index answers at once, as for bounds on the key
-- itself; null otherwise.
create or replace function freshet.filter_bounds(sink integer, filter text, out lower text[], out upper text[])
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lc_monetary = 'C'
set array_nulls = on
set enable_seqscan = off
set jit = off
as $$
declare
    v_class  record;
    v_terms  text[];
    v_point  text;
    v_from   text;
    v_sql    text;
    v_plan   json;
    v_first  text[];
begin
    select n.nspname, c.relname, c.oid into strict v_class
    from freshet.sink s
    join freshet.source o on o.id = s.source_id
    join pg_catalog.pg_class c on c.oid = o.relid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where s.id = filter_bounds.sink;
    -- Who does not see every row cannot say where they begin and end.
    if pg_catalog.row_security_active(v_class.oid) then
        return;
    end if;
    -- As for the workers: the filter is planned on the way through this setting.
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    v_terms := freshet.order_terms(sink, pg_catalog.quote_ident(v_class.relname), false);
    select pg_catalog.string_agg(pg_catalog.format('(%s)::pg_catalog.text', t), ', '),
           pg_catalog.format('from %I.%I as %2$I where ', v_class.nspname, v_class.relname)
               || pg_catalog.string_agg(pg_catalog.format('%s is not null', t), ' and ')
    into v_point, v_from
    from pg_catalog.unnest(v_terms) as t;

    v_sql := pg_catalog.format(E'select array[%s] %s and ((\n%s\n)) order by %s limit 1', v_point, v_from, filter,
        pg_catalog.array_to_string(v_terms, ', '));
    execute 'explain (format json) ' || v_sql into v_plan;
    if v_plan::text ~ '"Filter"|"Recheck|"Join' or (v_plan -> 0 -> 'Plan' ->> 'Total Cost')::double precision > 10000 then
        return;
    end if;
    execute v_sql into v_first;
    if v_first is null then
        return;
    end if;
    execute pg_catalog.format(E'select array[%s] %s and ((\n%s\n)) order by %s desc limit 1', v_point, v_from, filter,
        pg_catalog.array_to_string(v_terms, ' desc, '))
    into upper;
    execute pg_catalog.format('select array[%s] %s and (%s) < (%s) order by %s desc limit 1', v_point, v_from,
        pg_catalog.array_to_string(v_terms, ', '), freshet.bound(sink, v_first), pg_catalog.array_to_string(v_terms, ' desc, '))
    into lower;
end
$$;

revoke all on function freshet.filter_bounds(integer, text) from public;

-- A backfill by its number, for its sink's owner, locked after its sink. Refuses one that
-- is over.
create or replace function freshet.find_backfill(id bigint)
returns freshet.backfill_run
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select b.* into v_run from freshet.backfill_run b where b.id = find_backfill.id;
    if not found then
        raise exception 'id: there is no backfill %', id
            using errcode = 'undefined_object', hint = 'The view freshet.backfills lists them.';
    end if;
    perform freshet.check_owner(v_run.sink_id);
    perform from freshet.sink s where s.id = v_run.sink_id for update;
    select b.* into strict v_run from freshet.backfill_run b where b.id = find_backfill.id for update;
    if v_run.state in ('sweeping', 'completed', 'cancelled') then
        raise exception 'id: backfill % has written its last row', id
            using errcode = 'object_not_in_prerequisite_state',
                  hint = pg_catalog.format('Its state is %s.', v_run.state);
    end if;
    return v_run;
end
$$;

revoke all on function freshet.find_backfill(bigint) from public;

-- The sink of that name, or an error that lists the names there are.
create or replace function freshet.find_sink(name text)
returns freshet.sink
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink;
begin
    select * into v_sink from freshet.sink s where s.name = find_sink.name and s.state not in ('retiring', 'dropping');
    if not found then
        raise exception 'sink: there is no sink "%"', name
            using errcode = 'undefined_object',
                  hint = (select coalesce('There are: ' || pg_catalog.string_agg(s.name, ', ' order by s.name) || '.',
                                          'Create one with freshet.create_sink.')
                          from freshet.sink s where s.state not in ('retiring', 'dropping'));
    end if;
    return v_sink;
end
$$;

revoke all on function freshet.find_sink(text) from public;

-- What capture of a source relies on, as the catalog has it now. Whatever fires no trigger
-- shows here: xmin of a trigger's row changes even if it is disabled and enabled again.
create or replace function freshet.fingerprint(source integer)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In PL/pgSQL, which keeps the plan: this is asked every second.
    return (select pg_catalog.jsonb_build_object(
        -- raised by versions of Freshet that make other functions or change tables
        'form', 5,
        -- what the name stands for, and what the table is called
        'named', (select c.oid::bigint from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = s.schema_name and c.relname = s.table_name),
        'relation', (select n.nspname || '.' || c.relname || ' ' || c.relkind::text || c.relpersistence::text
                     from pg_catalog.pg_namespace n where n.oid = c.relnamespace),
        'columns', coalesce(a.columns, '{}'),
        -- Whoever gives a column other values without touching rows, as ALTER TABLE … USING does,
        -- changes both of these. Many others change one of them: VACUUM FULL, SET DEFAULT.
        'versions', coalesce(a.versions, '{}'),
        -- What else ALTER TABLE changes of a column, or a rewrite, and no entry shows.
        'trifles', coalesce(a.trifles, '{}'),
        -- Likewise, where it is not what a type brings with it.
        'stored', coalesce(a.stored, '{}'),
        'files', coalesce(p.files, c.relfilenode::bigint),
        -- of columns, and in expressions
        'types', coalesce(case when a.types is not null or e.types is not null then freshet.renderings(coalesce(a.types, '{}') || coalesce(e.types, '{}')) end, '{}')
                 || coalesce(a.computed, '{}'),
        -- what the sinks' expressions call: another body makes other entries. All of one name where
        -- workers look for it, for which of them is called can change too
        'calls', coalesce((
            select pg_catalog.jsonb_object_agg(e.call::text, case e.call ->> 2 when 'type' then (
                -- which one it is; how it reads is among the types
                select pg_catalog.hashtextextended(pg_catalog.string_agg(t.oid::text, ',' order by t.oid), 0)
                from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
                where t.typname = e.call ->> 1 and n.nspname in (e.call ->> 0, s.schema_name, 'public')
            ) when 'row' then pg_catalog.hashtextextended(a.columns::text, 0) when 'operator' then (
                -- Of those that extensions bring, which have many of one name, the ones with the same operands.
                select pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws('|', o.oid, o.oprcode::oid), ',' order by o.oid), 0)
                from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
                where o.oprname = e.call ->> 1 and n.nspname in (e.call ->> 0, s.schema_name, 'public')
                  and (coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprleft), '') = e.call ->> 3
                           and coalesce((select t.typname from pg_catalog.pg_type t where t.oid = o.oprright), '') = e.call ->> 4
                       or not exists (
                           select from pg_catalog.pg_depend d
                           where d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass and d.objid = o.oid and d.deptype = 'e'))) else (
                select pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws('|', f.oid, f.prosrc, f.probin, f.prosqlbody, f.proconfig,
                           f.provolatile, f.proisstrict, f.prosecdef, f.proargtypes, f.proargdefaults, (
                               -- by their numbers: names of functions are printed as a session has it
                               select pg_catalog.concat_ws('|', g.aggkind, g.aggnumdirectargs, g.aggtransfn::oid, g.aggfinalfn::oid, g.aggmtransfn::oid, g.aggminvtransfn::oid,
                                   g.aggmfinalfn::oid, g.aggfinalextra, g.aggmfinalextra, g.aggsortop, g.aggtranstype, g.aggmtranstype, g.agginitval, g.aggminitval, (
                                       select pg_catalog.string_agg(t.prosrc, '|' order by t.oid) from pg_catalog.pg_proc t
                                       where t.oid in (g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggmtransfn, g.aggmfinalfn)))
                               from pg_catalog.pg_aggregate g where g.aggfnoid = f.oid)), ',' order by f.oid), 0)
                from pg_catalog.pg_proc f join pg_catalog.pg_namespace n on n.oid = f.pronamespace
                where f.proname = e.call ->> 1 and n.nspname in (e.call ->> 0, s.schema_name, 'public')) end)
            from freshet.sink k cross join lateral pg_catalog.jsonb_array_elements(k.calls) as e (call)
            where k.source_id = s.id and k.calls <> '[]'), '{}'),
        -- whether rows could come and go without a trigger of the table's, as freshet.check_kind refuses it
        'unfit', c.relispartition or c.relpersistence <> 'p' or coalesce(p.strange, false)
                 or c.relkind = 'r' and (exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid)
                                         or exists (select from pg_catalog.pg_inherits i where i.inhrelid = c.oid)),
        'function', f.oid || '.' || f.xmin::text,
        -- whose the table is, whose its capture, and whether he may still capture anything:
        -- if not, he can put no gap on record either
        'owner', case when c.oid is not null then pg_catalog.jsonb_build_array(c.relowner::bigint, f.proowner::bigint,
                 pg_catalog.has_schema_privilege(f.proowner, 'freshet', 'usage'),
                 pg_catalog.has_table_privilege(f.proowner, pg_catalog.to_regclass(pg_catalog.format('freshet.%I', 'changes_' || s.id || '_' || s.segment)), 'insert')) end,
        'triggers', freshet.needs_row_triggers(s.relid)::text || ' ' || coalesce((select pg_catalog.string_agg(t.oid || '.' || t.xmin::text || '.' || t.tgenabled::text, ' ' order by t.oid)
                                from pg_catalog.pg_trigger t where t.tgrelid = s.relid and pg_catalog.starts_with(t.tgname, 'freshet_')), '-'),
        'changes', (select pg_catalog.array_agg(i.inhrelid::bigint order by i.inhrelid) from pg_catalog.pg_inherits i
                    where i.inhparent = pg_catalog.to_regclass(pg_catalog.format('freshet.%I', 'changes_' || s.id))),
        'unique', (select pg_catalog.array_agg(i.indexrelid::bigint order by i.indexrelid) from pg_catalog.pg_index i
                   where i.indrelid = s.relid and i.indisunique and i.indisvalid),
        'leaves', coalesce(p.leaves, '{}'),
        'unrecorded', coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(pg_catalog.format('freshet.%I', 'changes_' || s.id || '_unrecorded'))), 0))
    from freshet.source s
    left join pg_catalog.pg_class c on c.oid = s.relid
    left join pg_catalog.pg_proc f on f.oid = pg_catalog.to_regprocedure(pg_catalog.format('freshet.%I()', 'capture_' || s.id))
    left join lateral (
        select pg_catalog.jsonb_object_agg(a.attnum, pg_catalog.jsonb_build_array(a.attname, a.atttypid::bigint, a.atttypmod, a.attcollation::bigint)) as columns,
               pg_catalog.jsonb_object_agg(a.attnum, a.xmin::text) as versions,
               pg_catalog.jsonb_object_agg(a.attnum, pg_catalog.concat_ws('|', a.attnotnull, a.attstattarget, a.attoptions, a.attacl, a.atthasdef, a.atthasmissing, a.attidentity, a.attgenerated, a.attinhcount, a.attislocal,
                   b.value)) as trifles,
               pg_catalog.jsonb_object_agg(a.attnum, a.attstorage::text || a.attcompression::text)
                   filter (where a.attcompression <> '' or a.attstorage <> (select t.typstorage from pg_catalog.pg_type t where t.oid = a.atttypid)) as stored,
               pg_catalog.array_agg(a.atttypid) filter (where a.atttypid >= 16384) as types,
               -- what is computed when it is read
               pg_catalog.jsonb_object_agg('column ' || a.attnum, b.value) filter (where a.attgenerated = 'v') as computed
        from pg_catalog.pg_attribute a
        -- As it is stored: how it is printed is a matter of the session. Another type and back makes the row anew, and
        -- the expression loses where in a statement it stood.
        left join lateral (
            select pg_catalog.hashtextextended(pg_catalog.regexp_replace(d.adbin::text, ':location -?[0-9]+', '', 'g'), 0) as value
            from pg_catalog.pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum
        ) b on true
        where a.attrelid = s.relid and a.attnum > 0 and not a.attisdropped
    ) a on true
    left join lateral (
        select pg_catalog.array_agg(t.oid) as types
        from freshet.sink k cross join lateral pg_catalog.jsonb_array_elements(k.calls) as e (call)
        join pg_catalog.pg_type t on t.typname = e.call ->> 1
        join pg_catalog.pg_namespace n on n.oid = t.typnamespace and n.nspname in (e.call ->> 0, s.schema_name, 'public')
        where k.source_id = s.id and e.call ->> 2 = 'type'
    ) e on true
    left join lateral (
        select pg_catalog.jsonb_object_agg(r.relid::bigint, pg_catalog.jsonb_build_object(
                   'triggers', coalesce(g.triggers, ''),
                   -- From 17 on a partition can come to compute a column otherwise than the others do.
                   'computed', case when pg_catalog.current_setting('server_version_num')::integer >= 170000 then (
                       select pg_catalog.hashtextextended(pg_catalog.string_agg(d.adnum || pg_catalog.regexp_replace(d.adbin::text, ':location -?[0-9]+', '', 'g'), ' ' order by d.adnum), 0)
                       from pg_catalog.pg_attrdef d join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
                       where d.adrelid = r.relid and a.attgenerated <> '') end,
                   -- Only a leaf whose truncation is captured may change its file.
                   'file', case when not coalesce(g.truncates, false) then pg_catalog.pg_relation_filenode(r.relid)::bigint end)) as leaves,
               pg_catalog.hashtextextended(pg_catalog.string_agg(l.relfilenode::text, ' ' order by l.oid), 0) as files,
               pg_catalog.bool_or(l.relkind = 'f' or l.relpersistence <> 'p') as strange
        from freshet.partitions_of(s.relid) r
        join pg_catalog.pg_class l on l.oid = r.relid
        left join lateral (
            select pg_catalog.string_agg(t.oid || '.' || t.xmin::text || '.' || t.tgenabled::text, ' ' order by t.oid) as triggers,
                   pg_catalog.bool_or(t.tgname = 'freshet_truncate' and t.tgenabled = 'A' and t.tgfoid = f.oid) as truncates
            from pg_catalog.pg_trigger t where t.tgrelid = r.relid and pg_catalog.starts_with(t.tgname, 'freshet_')
        ) g on true
        where c.relkind = 'p'
    ) p on true
    where s.id = fingerprint.source);
end
$$;

revoke all on function freshet.fingerprint(integer) from public;

-- Ends a backfill whose ranges are all finished. Who calls it holds the sink and then the
-- run locked.
create or replace function freshet.finish_backfill(run bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run    freshet.backfill_run;
    v_swept  boolean;
begin
    -- The sweep that a re-warm comes with is asked for by itself, and may not be done yet.
    select b.filter is not null or not b.sweeps and not exists (
        select from freshet.lease l where l.sink_id = b.sink_id and l.kind = 'sweep' and l.finished_at is null)
    into v_swept
    from freshet.backfill_run b where b.id = finish_backfill.run;
    update freshet.backfill_run b
    set state = case when v_swept then 'completed' else 'sweeping' end,
        finished_at = case when v_swept then pg_catalog.clock_timestamp() end
    where b.id = finish_backfill.run and b.state <> 'cancelled'
    returning * into v_run;
    -- Lanes read the sink anew, and soon write a cursor that sees this transaction.
    update freshet.sink s set revision = s.revision + 1
    where s.id = (select b.sink_id from freshet.backfill_run b where b.id = finish_backfill.run);
    if v_run.id is null then
        return;
    end if;
    if v_run.filter is not null then
        perform freshet.forget_ranges(v_run.sink_id, v_run.id, true);
        return;
    end if;
    update freshet.sink s set coverage = 'full' where s.id = v_run.sink_id;
    if v_run.sweeps then
        perform freshet.request_sweep(v_run.sink_id, pg_catalog.pg_current_snapshot());
    end if;

    -- What earlier ones wrote has been written again; only that they were is remembered, of
    -- the last hundred.
    perform freshet.forget_ranges(v_run.sink_id, v_run.id, false);
    delete from freshet.backfill_run b
    where b.sink_id = v_run.sink_id and b.state in ('completed', 'cancelled') and b.id < (
        select min(k.id) from (
            select o.id from freshet.backfill_run o where o.sink_id = v_run.sink_id order by o.id desc limit 100) k)
      and not exists (select from freshet.backfill_range r where r.run_id = b.id);
end
$$;

revoke all on function freshet.finish_backfill(bigint) from public;

-- Ends the work of a lease for good. The last range of a backfill completes it; the
-- last purge of a sink removes the sink. False if `epoch` is over.
create or replace function freshet.finish_lease(lease bigint, epoch bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Whoever holds the sink for long must not hold up the worker's heartbeat by the lease.
set lock_timeout = '1s'
as $$
declare
    v_lease  freshet.lease;
    v_run    bigint;
begin
    -- The end of a sink is the end of all its leases: locked in one order.
    perform from freshet.lease l
    where l.sink_id = (select p.sink_id from freshet.lease p where p.id = finish_lease.lease and p.kind = 'purge')
    order by l.id
    for update;
    update freshet.lease l
    set finished_at = pg_catalog.clock_timestamp(), holder = null
    where l.id = finish_lease.lease and l.epoch = finish_lease.epoch
    returning * into v_lease;
    if not found then
        return false;
    end if;

    if v_lease.kind = 'backfill' then
        -- Sink first, then run, like request_backfill and alter_sink.
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        update freshet.backfill_range r
        set finished_at = pg_catalog.clock_timestamp(),
            -- One that was cancelled before it began has written nothing that could be lost.
            finished_xid = case when v_lease.stamped then pg_catalog.pg_current_xact_id() end,
            finished_in = freshet.incarnation()
        where r.lease_id = v_lease.id
        returning r.run_id into v_run;
        -- Two ranges that end at once must not each take the other for unfinished.
        perform from freshet.backfill_run b where b.id = v_run for update;
        if not exists (select from freshet.backfill_range r where r.run_id = v_run and r.finished_at is null) then
            perform freshet.finish_backfill(v_run);
        end if;

    elsif v_lease.kind = 'sweep' then
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        perform freshet.finish_sweeps(v_lease.sink_id);

    elsif v_lease.kind = 'purge' then
        perform from freshet.sink s where s.id = v_lease.sink_id for update;
        delete from freshet.removed r where r.removed_at < pg_catalog.clock_timestamp() - interval '30 days';
        insert into freshet.removed as r (sink_id, target, sink, source)
        select s.id, v_lease.target, pg_catalog.to_jsonb(s), pg_catalog.to_jsonb(o)
        from freshet.sink s join freshet.source o on o.id = s.source_id
        where s.id = v_lease.sink_id and not s.keep_entries
        on conflict (sink_id, target) do update set sink = excluded.sink, source = excluded.source, removed_at = excluded.removed_at;
        if not exists (select from freshet.sink s where s.id = v_lease.sink_id and s.state in ('retiring', 'dropping')) then
            -- A target less. What failed there fails nowhere now.
            delete from freshet.failure f where f.sink_id = v_lease.sink_id and f.target = v_lease.target;
            delete from freshet.lease l
            where l.sink_id = v_lease.sink_id and l.target = v_lease.target and l.kind in ('retired', 'purge');
        elsif not exists (
            select from freshet.lease l
            where l.sink_id = v_lease.sink_id and l.kind = 'purge' and l.finished_at is null)
        then
            delete from freshet.sink s where s.id = v_lease.sink_id;
            delete from freshet.source o
            where o.relid is null and not exists (select from freshet.sink s where s.source_id = o.id);
        end if;
    end if;
    return true;
end
$$;

revoke all on function freshet.finish_lease(bigint, bigint) from public;

-- Ends the backfills of a sink that wait for sweeps, when none is left. Who calls it holds the
-- sink locked.
create or replace function freshet.finish_sweeps(sink integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.backfill_run b
    set state = 'completed', finished_at = pg_catalog.clock_timestamp()
    where b.sink_id = finish_sweeps.sink and b.state = 'sweeping'
      and not exists (
          select from freshet.lease l
          where l.sink_id = finish_sweeps.sink and l.kind = 'sweep' and l.finished_at is null);
$$;

revoke all on function freshet.finish_sweeps(integer) from public;

-- The part of a trigger function that captures what is written in the first half millisecond of
-- a transaction, which for most is all they write; what it leaves goes on to the rest. Given are the
-- segment that is written to, up to which number of a change it cannot be as large as where
-- capture stops, and where that is; what captures an update of one row, an insert and a delete,
-- and what follows when anything is wrong.
--
-- Expressions are made ready anew in each transaction, with every function they name. So this
-- passes few of them: above all for the update of a single row, which is most of what databases
-- do. That has an insert of its own, which fails where there are more rows. The bell's lock is
-- taken first: if it is not to be had, somebody sleeps, and the rest rings.
create or replace function freshet.first_moments(
    source    integer,
    relation  oid,
    segment   text,
    room      bigint,
    stop      bigint,
    updated   text,
    inserted  text,
    deleted   text,
    failed    text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $body$
    select pg_catalog.format($sql$
    if tg_relid = %2$s and pg_catalog.clock_timestamp() < current_timestamp + interval '0.5 milliseconds' then
        begin
            if (pg_catalog.pg_sequence_last_value('freshet.changes_%1$s_id') <= %4$s or pg_catalog.pg_relation_size('%3$s') <= %5$s)
                and pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, %1$s)
            then
                if tg_name = 'freshet_update' then%6$s
                    return null;
                elsif tg_name = 'freshet_insert' then%7$s
                    return null;
                elsif tg_name = 'freshet_delete' then%8$s
                    return null;
                end if;
            end if;
        exception
            when cardinality_violation then
                null; -- an update of several rows%9$s
                return null;
        end;
    end if;
$sql$, source, relation, segment, room, stop,
        updated, inserted, deleted, pg_catalog.replace(failed, E'\n', E'\n        '))
$body$;

revoke all on function freshet.first_moments(integer, oid, text, bigint, bigint, text, text, text, text) from public;

-- The key columns that have to be compared as lower(column): those with |lower whose
-- type does not ignore case by itself.
create or replace function freshet.folded(source oid, parts jsonb)
returns smallint[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(pg_catalog.array_agg(distinct (p.part ->> 'attnum')::smallint), '{}')
    from pg_catalog.jsonb_array_elements(parts) as p (part)
    where p.part -> 'modifiers' ? 'lower' and not freshet.ignores_case(source, (p.part ->> 'attnum')::smallint)
$$;

revoke all on function freshet.folded(oid, jsonb) from public;

-- Forgets the ranges of a sink's backfills that were over before this one: of all of them,
-- or only of those that were of some rows and have been over for a day.
create or replace function freshet.forget_ranges(sink integer, before bigint, partial boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    for v_run in
        select o.id
        from freshet.backfill_run o join freshet.backfill_range r on r.run_id = o.id
        where o.sink_id = forget_ranges.sink and o.id < before
          and (not partial or o.filter is not null and o.finished_at < pg_catalog.clock_timestamp() - interval '1 day')
        group by o.id
        having pg_catalog.bool_and(r.finished_at is not null)
    loop
        update freshet.backfill_run b
        set rows_done = b.rows_done + (select sum(r.rows_done) from freshet.backfill_range r where r.run_id = v_run)
        where b.id = v_run;
        delete from freshet.lease l
        using freshet.backfill_range r
        where r.lease_id = l.id and r.run_id = v_run;
    end loop;
end
$$;

revoke all on function freshet.forget_ranges(integer, bigint, boolean) from public;

-- Gives up what a sink has still to remove from a target that will not come back. Without it, a sink that was
-- dropped would wait for a worker with that target's URL for ever, and its name and keys with it. Should the target
-- come back within thirty days, its entries are removed then.
create or replace function freshet.forget_target(sink text, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker  text;
    v_lease   record;
    v_any     boolean := false;
begin
    perform freshet.lock_definitions();
    select w.id into v_worker from freshet.worker w
    where forget_target.target = any (w.targets) and w.heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds'
    order by w.id limit 1;
    if v_worker is not null then
        raise exception 'target: the worker % serves "%", and removes what is there', v_worker, target
            using errcode = 'object_in_use',
                  hint = 'Wait until it is done, or take the URL of that target from it.';
    end if;
    -- Last of each sink the purge, which ends it.
    for v_lease in
        select l.id, l.kind, s.id as sink_id, s.state
        from freshet.sink s
        join freshet.lease p on p.sink_id = s.id and p.target = forget_target.target and p.kind = 'purge' and p.finished_at is null
        join freshet.lease l on l.sink_id = s.id and l.target = p.target and l.kind in ('backfill', 'sweep', 'purge') and l.finished_at is null
        where s.name = forget_target.sink
           or s.state in ('retiring', 'dropping') and pg_catalog.split_part(s.name, '~', 1) = forget_target.sink
        order by s.id, l.kind = 'purge', l.id
    loop
        v_any := true;
        perform freshet.check_owner(v_lease.sink_id);
        if v_lease.kind = 'purge' and v_lease.state not in ('retiring', 'dropping') then
            perform freshet.end_lanes(v_lease.id, (select l.epoch from freshet.lease l where l.id = v_lease.id));
        end if;
        -- Whoever has it after all finds another epoch.
        update freshet.lease l set epoch = l.epoch + 1 where l.id = v_lease.id;
        perform freshet.finish_lease(v_lease.id, (select l.epoch from freshet.lease l where l.id = v_lease.id));
    end loop;
    if not v_any then
        raise exception 'target: nothing of the sink "%" is still to be removed from "%"', sink, target
            using errcode = 'undefined_object',
                  hint = 'See the view freshet.status. A target that a sink writes to is taken from it by alter_sink(targets => …).';
    end if;
end
$$;

comment on function freshet.forget_target(text, text)
is 'Gives up what a dropped sink has still to remove from a target that will not come back.';
revoke all on function freshet.forget_target(text, text) from public;

-- The function of Go that somebody has to have who works on a lease; null if it needs none.
-- What only removes entries makes none.
create or replace function freshet.function_for(sink freshet.sink, lease freshet.lease)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case when lease.kind in ('sync', 'backfill', 'sweep') and not lease.closing
                     and sink.state not in ('retiring', 'dropping')
                then pg_catalog.substring(sink.transform, '^go:(.*)$') end
$$;

revoke all on function freshet.function_for(freshet.sink, freshet.lease) from public;

-- Lets the workers call what the expressions of a sink call. What this role may not grant is
-- said in a notice, as the statement to run.
create or replace function freshet.grant_calling(source oid, sink freshet.sink)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_expression  record;
    v_probe       record;
    v_function    record;
    v_schema      oid;
    v_grant       text;
begin
    if pg_catalog.to_regrole('freshet_worker') is null then
        return;
    end if;
    for v_expression in
        select * from (values
            ('filter', sink.filter, 'condition'),
            ('value', sink.value, case when sink.grouped then 'group' else 'row' end),
            ('expires_at', sink.expires_at, case when sink.grouped then 'group' else 'row' end)) as e (argument, sql, what)
        where e.sql is not null
    loop
        v_probe := freshet.probe(source, v_expression.argument, v_expression.sql, v_expression.what);
        -- What a view calls counts as called by who reads it.
        for v_function in
            select p.oid::pg_catalog.regprocedure as name, p.proowner as owner
            from freshet.called(v_probe.tree || ' ' || v_probe.behind) as c (function)
            join pg_catalog.pg_proc p on p.oid = c.function
            where not pg_catalog.has_function_privilege('freshet_worker', p.oid, 'execute')
            order by p.oid
        loop
            v_grant := pg_catalog.format('grant execute on function %s to freshet_worker', v_function.name);
            if pg_catalog.pg_has_role(v_function.owner, 'usage') then
                execute v_grant;
            else
                raise notice '%: the workers may not call % yet', v_expression.argument, v_function.name
                    using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_function.owner), v_grant);
            end if;
        end loop;
        foreach v_schema in array v_probe.schemas loop
            perform freshet.grant_using(v_schema);
        end loop;
    end loop;
end
$$;

revoke all on function freshet.grant_calling(oid, freshet.sink) from public;

-- Lets the workers read a table. What this role may not grant is said in a notice, as the
-- statement to run.
create or replace function freshet.grant_reading(relation oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_table  record;
    v_grant  text;
begin
    if pg_catalog.to_regrole('freshet_worker') is null then
        return;
    end if;
    select c.relnamespace as schema, c.relowner into strict v_table from pg_catalog.pg_class c where c.oid = relation;
    if not pg_catalog.has_table_privilege('freshet_worker', relation, 'select') then
        v_grant := pg_catalog.format('grant select on %s to freshet_worker', relation::pg_catalog.regclass);
        if pg_catalog.pg_has_role(v_table.relowner, 'usage') then
            execute v_grant;
        else
            raise notice 'the workers may not read % yet', relation::pg_catalog.regclass using hint = 'Run: ' || v_grant || ';';
        end if;
    end if;
    perform freshet.grant_using(v_table.schema);
end
$$;

revoke all on function freshet.grant_reading(oid) from public;

-- Gives Freshet's two roles what they need, making them if there are none and this role
-- may: members of freshet_admin create sinks on tables they own, members of
-- freshet_worker run workers. Run by every migration, and by hand after the roles were
-- made by somebody else.
create or replace function freshet.grant_roles()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role      text;
    v_function  regprocedure;
    v_relation  record;
    v_source    integer;
begin
    foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
        continue when pg_catalog.to_regrole(v_role) is not null;
        begin
            execute pg_catalog.format('create role %I', v_role);
            execute pg_catalog.format('comment on role %I is %L', v_role,
                case v_role when 'freshet_admin' then 'Freshet: creates sinks on tables that it owns'
                    else 'Freshet: runs workers' end);
        exception
            -- Roles are the whole cluster's: another database may be at it as well.
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise notice 'only % can use Freshet: there are no roles freshet_admin and freshet_worker, and it may not create them', current_user
                    using hint = 'Have somebody create them, then run: select freshet.grant_roles();';
                exit;
        end;
    end loop;

    if pg_catalog.to_regrole('freshet_admin') is not null then
        grant usage, create on schema freshet to freshet_admin;
        -- Change tables are their keepers' owners', and granted by grant_source.
        for v_relation in
            select c.oid::pg_catalog.regclass as name, c.relkind = 'S' as sequence
            from pg_catalog.pg_class c
            where c.relnamespace = 'freshet'::pg_catalog.regnamespace and c.relkind in ('r', 'v', 'S') and c.relname !~ '^changes_'
        loop
            execute pg_catalog.format(
                case when v_relation.sequence then 'grant usage on sequence %s to freshet_admin'
                    else 'grant select, insert, update, delete on %s to freshet_admin' end, v_relation.name);
        end loop;
        for v_function in
            select p.oid from pg_catalog.pg_proc p
            where p.pronamespace = 'freshet'::pg_catalog.regnamespace and p.prorettype <> 'trigger'::pg_catalog.regtype
              -- Keepers are their makers', and granted by them.
              and p.proname !~ '^keep_[0-9]'
        loop
            execute pg_catalog.format('grant execute on function %s to freshet_admin', v_function);
        end loop;
    end if;

    if pg_catalog.to_regrole('freshet_worker') is not null then
        grant usage on schema freshet to freshet_worker;
        grant select on freshet.schema_version, freshet.installation, freshet.incarnation, freshet.source, freshet.segment, freshet.sink, freshet.lease,
            freshet.worker, freshet.backfill_run, freshet.backfill_range, freshet.failure, freshet.removed, freshet.capture_gap, freshet.noted_partition,
            freshet.sinks, freshet.status, freshet.backfills, freshet.failures, freshet.capture_gaps, freshet.recent_changes to freshet_worker;
        grant insert on freshet.incarnation, freshet.lease, freshet.worker, freshet.backfill_run, freshet.backfill_range, freshet.failure, freshet.removed, freshet.noted_partition to freshet_worker;
        grant update on freshet.segment, freshet.lease, freshet.worker, freshet.backfill_run, freshet.backfill_range, freshet.failure, freshet.removed to freshet_worker;
        -- What a sink is made of is not a worker's business either, but for what has to
        -- follow from changes of its source.
        revoke update on freshet.sink, freshet.source from freshet_worker;
        grant update (coverage, definition, revision, key_parts, key_attnums, folded_attnums, order_attnums, column_attnums, value_type, broken, survey_after, notice, state, failing)
            on freshet.sink to freshet_worker;
        grant update (relid, schema_name, table_name, key_attnums, fingerprint, mended_at, mend_tries, mend_after, mend_error, barred_by, barred_since)
            on freshet.source to freshet_worker;
        grant update (past) on freshet.installation to freshet_worker;
        grant delete on freshet.backfill_run, freshet.failure, freshet.removed, freshet.capture_gap, freshet.noted_partition, freshet.source, freshet.sink, freshet.lease, freshet.worker to freshet_worker;
        for v_relation in
            select c.oid::pg_catalog.regclass as name, c.relkind = 'S' as sequence
            from pg_catalog.pg_class c
            where c.relnamespace = 'freshet'::pg_catalog.regnamespace
              and (c.relkind = 'r' and pg_catalog.starts_with(c.relname, 'river_') or c.relkind = 'S' and c.relname !~ '^changes_')
        loop
            execute pg_catalog.format(
                case when v_relation.sequence then 'grant usage on sequence %s to freshet_worker'
                    else 'grant select, insert, update, delete on %s to freshet_worker' end, v_relation.name);
        end loop;
        -- What changes which sinks there are is not a worker's business.
        for v_function in
            select p.oid from pg_catalog.pg_proc p
            where p.pronamespace = 'freshet'::pg_catalog.regnamespace and p.prorettype <> 'trigger'::pg_catalog.regtype
              -- Keepers are their makers', and granted by them.
              and p.proname !~ '^keep_[0-9]'
              and p.proname <> all (array['create_sink', 'alter_sink', 'drop_sink', 'forget_target', 'pause_sink', 'resume_sink', 'pause_backfill', 'resume_backfill', 'cancel_backfill',
                  'make_capture', 'make_change_table', 'make_capture_function', 'make_triggers', 'make_keeper', 'keep', 'refit_change_table', 'lock_capture', 'drop_capture', 'grant_roles', 'grant_source', 'record_gap', 'replace_view'])
        loop
            execute pg_catalog.format('grant execute on function %s to freshet_worker', v_function);
        end loop;
    end if;

    for v_source in select s.id from freshet.source s where s.relid is not null loop
        perform freshet.grant_source(v_source);
    end loop;
end
$$;

revoke all on function freshet.grant_roles() from public;

-- Lets Freshet's roles read a source and its change table, and write to the latter.
-- What this role may not grant is said in a notice, as the statement to run.
create or replace function freshet.grant_source(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source  record;
    v_role    text;
    v_table   record;
begin
    select s.relid into v_source
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = grant_source.source;
    if not found then
        return;
    end if;

    foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
        continue when pg_catalog.to_regrole(v_role) is null;
        for v_table in
            select pg_catalog.format(case c.relkind when 'S' then 'grant usage on sequence %s to %I' else 'grant select, insert on %s to %I' end,
                       c.oid::pg_catalog.regclass, v_role) as grant, c.relowner as owner
            from pg_catalog.pg_class c
            where c.relnamespace = 'freshet'::pg_catalog.regnamespace
              and c.relname ~ ('^changes_' || source || '(_|$)')
              and case c.relkind
                  when 'S' then not pg_catalog.has_sequence_privilege(v_role, c.oid, 'usage')
                  when 'r' then not (pg_catalog.has_table_privilege(v_role, c.oid, 'select')
                                     and pg_catalog.has_table_privilege(v_role, c.oid, 'insert'))
                  else false end
        loop
            if pg_catalog.pg_has_role(v_table.owner, 'usage') then
                execute v_table.grant;
            else
                raise notice 'the role % may not use the changes of % yet', v_role, v_source.relid::pg_catalog.regclass
                    using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_table.owner), v_table.grant);
            end if;
        end loop;
    end loop;

    perform freshet.grant_reading(v_source.relid);
end
$$;

revoke all on function freshet.grant_source(integer) from public;

-- Lets the workers use a schema, or says in a notice what to run.
create or replace function freshet.grant_using(schema oid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema  record;
    v_grant   text;
begin
    select n.nspname as name, n.nspowner as owner into strict v_schema from pg_catalog.pg_namespace n where n.oid = schema;
    if pg_catalog.has_schema_privilege('freshet_worker', schema, 'usage') then
        return;
    end if;
    v_grant := pg_catalog.format('grant usage on schema %I to freshet_worker', v_schema.name);
    if pg_catalog.pg_has_role(v_schema.owner, 'usage') then
        execute v_grant;
    else
        raise notice 'the workers may not use the schema % yet', v_schema.name
            using hint = pg_catalog.format('As %I run: %s;', pg_catalog.pg_get_userbyid(v_schema.owner), v_grant);
    end if;
end
$$;

revoke all on function freshet.grant_using(oid) from public;

-- Ends a slice of a lease: releases it, and offers a lane to a worker that has fewer. Left to
-- whoever comes first, it would mostly come back: the worker that gives it is the first to
-- hear of it.
create or replace function freshet.hand_over(lease bigint, epoch bigint, silence interval)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- One at a time, for each to see what was offered before; another slice will come.
    if pg_catalog.pg_try_advisory_xact_lock(1181905015) then
        update freshet.lease l
        set offered_to = freshet.lighter_worker(l.id, l.holder, silence)
        where l.id = hand_over.lease and l.epoch = hand_over.epoch and l.kind = 'sync';
    end if;
    return freshet.release_lease(lease, epoch);
end
$$;

revoke all on function freshet.hand_over(bigint, bigint, interval) from public;

-- Whether the change table of a source has anything that `passed` does not see.
-- Stable, so that it looks with the snapshot of the statement that calls it.
create or replace function freshet.has_changes(source integer, passed pg_snapshot)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_found  boolean;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        -- The lane itself has to find out why.
        return true;
    end if;
    execute pg_catalog.format(
        'select exists (select from freshet.window_ranges($1, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select from freshet.%I c where c.xid >= r.lo and c.xid <= r.hi limit 1) c)',
        'changes_' || source)
    into v_found
    using passed;
    return v_found;
end
$$;

revoke all on function freshet.has_changes(integer, pg_snapshot) from public;

-- Whether a segment of a change table has changes that a snapshot does not see. Volatile:
-- what was committed before the segment was locked has to show.
create or replace function freshet.has_unseen(source integer, segment integer, seen pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_found  boolean;
begin
    execute pg_catalog.format(
        'select exists (select from only freshet.%I c '
        'where c.xid >= pg_catalog.pg_snapshot_xmin($1) and not pg_catalog.pg_visible_in_snapshot(c.xid, $1))',
        'changes_' || source || '_' || segment)
    into v_found
    using seen;
    return v_found;
end
$$;

revoke all on function freshet.has_unseen(integer, integer, pg_snapshot) from public;

-- What a worker says once a second, for all its leases in one statement: that it
-- lives, how far each has come and what went wrong. Returns the leases that it still
-- holds, each with its sink's revision and whether this was written down; the others have a
-- new owner. Of a life of the database that is over, as a crash ends it, nothing is written
-- down: the transaction ids in its cursors may mean something else by now. It waits for nobody: a lease that somebody has locked is written with the next
-- heartbeat, and no other for its sake.
create or replace function freshet.heartbeat(
    worker      text,
    targets     text[],
    transforms  text[],
    leases      bigint[],
    epochs      bigint[],
    lives       text[],
    cursors     text[],
    passed      text[],
    as_of       timestamptz[],
    errors      text[])
returns table (lease bigint, revision integer, written boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free     bigint[];
    v_written  bigint[];
begin
    insert into freshet.worker as w (id, role, targets, transforms)
    values (heartbeat.worker, current_user, heartbeat.targets, heartbeat.transforms)
    on conflict (id) do update
    set heartbeat_at = pg_catalog.clock_timestamp(), targets = excluded.targets, transforms = excluded.transforms;

    select pg_catalog.array_agg(f.id) into v_free
    from (
        select l.id from freshet.lease l where l.id = any (leases) and l.holder = heartbeat.worker
        for no key update skip locked) f;
    with said as (
        select v.lease, v.epoch, v.error,
               case when o.current then v.cursor end as cursor,
               case when o.current then v.passed end as passed,
               case when o.current then v.as_of end as as_of
        from rows from (
            pg_catalog.unnest(leases), pg_catalog.unnest(epochs), pg_catalog.unnest(lives), pg_catalog.unnest(cursors),
            pg_catalog.unnest(heartbeat.passed), pg_catalog.unnest(heartbeat.as_of), pg_catalog.unnest(errors)
        ) as v (lease, epoch, life, cursor, passed, as_of, error)
        cross join freshet.incarnation() as i (incarnation)
        cross join lateral (select v.life is null or v.life = i.incarnation) as o (current)),
    beaten as (
        update freshet.lease l
        set heartbeat_at = pg_catalog.clock_timestamp(),
            cursor = coalesce(v.cursor, l.cursor),
            passed = coalesce(v.passed::pg_snapshot, l.passed),
            as_of = coalesce(v.as_of, l.as_of),
            -- It says the same again and again while it stands still.
            lapsed = l.lapsed and (v.passed is null or v.passed = l.passed::text),
            last_error = coalesce(v.error, l.last_error),
            last_error_at = case when v.error is null then l.last_error_at else pg_catalog.clock_timestamp() end
        from said v
        where l.id = any (v_free) and l.id = v.lease and l.epoch = v.epoch and l.holder = heartbeat.worker
        returning l.id)
    select pg_catalog.array_agg(b.id) into v_written from beaten b;

    return query
    select l.id, s.revision, coalesce(l.id = any (v_written), false)
    from rows from (pg_catalog.unnest(leases), pg_catalog.unnest(epochs)) as v (lease, epoch)
    join freshet.lease l on l.id = v.lease and l.epoch = v.epoch and l.holder = heartbeat.worker
    join freshet.sink s on s.id = l.sink_id;
end
$$;

revoke all on function freshet.heartbeat(text, text[], text[], bigint[], bigint[], text[], text[], text[], timestamptz[], text[]) from public;

-- Whether row security could hide rows of a table from a role. Only a policy that lets
-- everything through is taken for one that hides nothing.
create or replace function freshet.hides_rows(relation oid, role oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with policies as (
        select p.polpermissive as permissive, coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true') = 'true' as open
        from pg_catalog.pg_policy p
        where p.polrelid = hides_rows.relation and p.polcmd in ('r', '*')
          and exists (
              select from pg_catalog.unnest(p.polroles) as r (oid)
              where r.oid = 0 or pg_catalog.pg_has_role(hides_rows.role, r.oid, 'usage'))
    )
    select c.relrowsecurity
       and not r.rolsuper and not r.rolbypassrls
       and (c.relforcerowsecurity or not pg_catalog.pg_has_role(r.oid, c.relowner, 'usage'))
       and (not exists (select from policies p where p.permissive and p.open)
            or exists (select from policies p where not p.permissive and not p.open))
    from pg_catalog.pg_class c, pg_catalog.pg_roles r
    where c.oid = hides_rows.relation and r.oid = hides_rows.role
$$;

revoke all on function freshet.hides_rows(oid, oid) from public;

-- The other transactions that have a table or its partitions locked so that `lock table …
-- in … mode` waits for them, or that have a change table locked at all. Null if nobody has.
create or replace function freshet.holders_of(source oid, mode text, changes text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select pg_catalog.array_agg(distinct l.virtualtransaction)
        from pg_catalog.pg_locks l
        where l.locktype = 'relation' and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
          and (l.relation = pg_catalog.to_regclass(changes)
            or l.relation in (select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = pg_catalog.to_regclass(changes))
            or (l.relation = holders_of.source or l.relation in (select p.relid from freshet.partitions_of(source) p))
               and (holders_of.mode = 'access exclusive' or l.mode not in ('AccessShareLock', 'RowShareLock'))));
end
$$;

revoke all on function freshet.holders_of(oid, text, text) from public;

-- Whether the type of a column takes 'Ada' and 'ADA' for equal: citext. A collation
-- that is not deterministic may do so too, but does not say it.
create or replace function freshet.ignores_case(relation oid, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select t.typname = 'citext'
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = freshet.base_type(a.atttypid)
    where a.attrelid = relation and a.attnum = ignores_case.attnum
$$;

revoke all on function freshet.ignores_case(oid, smallint) from public;

-- Which life of the database this is: system identifier, timeline, database with what
-- freshet.renew_past drew, and the value that a crash or a promotion forgets. Null when that value is missing
-- and freshet.renew_incarnation has to draw another. In PL/pgSQL, which keeps the plan: every
-- claim asks.
--
-- The first three stay what they are for as long as a session does: a crash ends it, before a promotion this cannot be
-- asked, and no session changes its database. To look them up takes most of the time, for one is read from a file. So a session
-- remembers them, as a setting that is true of whoever has the session next, too.
create or replace function freshet.incarnation()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_server text := pg_catalog.current_setting('freshet.server', true);
begin
    if coalesce(v_server, '') = '' then
        select (pg_catalog.pg_control_system()).system_identifier
            || '.' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
            || '.' || d.oid
        into strict v_server
        from pg_catalog.pg_database d
        where d.datname = pg_catalog.current_database();
        perform pg_catalog.set_config('freshet.server', v_server, false);
    end if;
    return (select v_server || coalesce('-' || n.past, '') || '.' || i.value
        from freshet.installation n cross join freshet.incarnation i);
end
$$;

revoke all on function freshet.incarnation() from public;

-- Whether what capture of a source relies on is not as it was when that was last looked
-- after, whoever altered it.
create or replace function freshet.is_altered(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.fingerprint - 'known' is distinct from freshet.fingerprint(s.id)
            from freshet.source s where s.id = is_altered.source);
end
$$;

revoke all on function freshet.is_altered(integer) from public;

-- Whether two values of a column that are equal in SQL are always the same bytes
-- when rendered. Not so for numeric (1.0 = 1.00), for floats (-0 = 0), citext,
-- bpchar or a collation that is not deterministic: those are compared as text.
create or replace function freshet.is_exact(relation oid, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        -- A domain over an enum has no equality of its own.
        (d.typtype = 'e' or t.oid = any (array[
            'bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', '"char"', 'uuid', 'bytea',
            'date', 'timestamp', 'timestamptz']::pg_catalog.regtype[]))
        and coalesce(c.collisdeterministic, true), false)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type d on d.oid = a.atttypid
    join pg_catalog.pg_type t on t.oid = case when d.typtype = 'd' then freshet.base_type(d.oid) else d.oid end
    left join pg_catalog.pg_collation c on c.oid = a.attcollation
    where a.attrelid = relation and a.attnum = is_exact.attnum
$$;

revoke all on function freshet.is_exact(oid, smallint) from public;

-- Whether a function that Postgres calls stable depends on its arguments and on settings
-- only that are the same for every worker: TimeZone, DateStyle, IntervalStyle, bytea_output,
-- extra_float_digits and lc_monetary. It is a property that the catalog does not have.
create or replace function freshet.is_settled(function oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_proc p
        where p.oid = function and p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
          and (p.proname ~ '^(to_jsonb?|row_to_json|array_to_json|jsonb?_build_(object|array)|jsonb?_(agg|object_agg)(_strict|_unique|_unique_strict)?|jsonb?_(populate_record|populate_recordset|to_record|to_recordset))$'
              or p.proname in ('format', 'concat', 'concat_ws', 'textanycat', 'anytextcat', 'array_to_string', 'quote_literal', 'quote_nullable', 'convert_to', 'convert_from', 'convert')
              or p.proname in ('to_char', 'to_date', 'to_timestamp', 'date_trunc', 'date_part', 'extract', 'timezone', 'make_timestamptz')
              -- Casts between moments, and what compares and adds them.
              or p.proname in ('date', 'time', 'timetz', 'timestamp', 'timestamptz')
              or p.proname ~ '^(timestamptz_(pl|mi)_interval|interval_pl_timestamptz|date_(add|subtract))$'
              or p.proname ~ '^(timestamp|date)_(lt|le|eq|ne|ge|gt|cmp)_timestamptz$'
              or p.proname ~ '^timestamptz_(lt|le|eq|ne|ge|gt|cmp)_(timestamp|date)$'
              or p.proname in ('money', 'numeric') and p.pronargs = 1))
$$;

revoke all on function freshet.is_settled(oid) from public;

-- Has the backfill of everything that a sink is in the middle of write again what it had
-- written before this moment. Null if there is none; one that is paused is joined by users
-- only, for what Freshet asks for itself must not wait. Who calls it holds the sink locked.
create or replace function freshet.join_backfill(sink integer, reason text, rate integer, sweeps boolean)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select * into v_run
    from freshet.backfill_run b
    where b.sink_id = join_backfill.sink and b.filter is null
      and (b.state in ('queued', 'running') or b.state = 'paused' and join_backfill.reason = 'user')
    order by b.id desc
    limit 1;
    if not found then
        return null;
    end if;

    perform freshet.lock_ranges(join_backfill.sink);
    perform freshet.redo_ranges(v_run.id, null);

    perform freshet.add_targets(v_run.id);

    -- What a user asks for is not slowed down for having been asked for by Freshet before.
    update freshet.backfill_run b
    set reason = case when join_backfill.reason = 'user' and b.reason = 'rewarm' then 'user' else b.reason end,
        rate = case when join_backfill.reason = 'user' and (b.reason = 'rewarm' or join_backfill.rate is not null) then join_backfill.rate else b.rate end,
        paced_until = null,
        needed = b.needed or join_backfill.reason <> 'user',
        sweeps = b.sweeps or join_backfill.sweeps,
        requested = pg_catalog.pg_current_snapshot()
    where b.id = v_run.id;
    -- Whoever works on it has to know of the rate.
    update freshet.sink s set revision = s.revision + 1 where s.id = join_backfill.sink;
    if v_run.state = 'paused' then
        perform freshet.continue_backfill(v_run.id);
    end if;
    return v_run.id;
end
$$;

revoke all on function freshet.join_backfill(integer, text, integer, boolean) from public;

-- What only the owner of a capture may do, one task at a time:
--   capture   write the capture anew, with the source locked
--   renew     the same, into a segment that was never written to
--   rebuild   the same, with a new change table
--   leaves    make triggers for partitions that have none yet, with the source locked
--   create    make one segment more
--   switch    let triggers write to a segment
--   truncate  empty a segment; false if somebody is at it, or it has what is not consumed
create or replace function freshet.keep(source integer, task text, segment integer)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment   freshet.segment;
    v_relation  text := 'freshet.changes_' || source || '_' || segment;
    v_alien     text;
begin
    if task in ('capture', 'renew', 'rebuild', 'leaves') then
        -- With the change table locked, too, nobody reads it by a plan from before. One attempt:
        -- whoever mends comes again, and a migration that waits for that one to change a sink
        -- must not have waited for so long that it looks for a deadlock.
        perform freshet.lock_source((select s.relid from freshet.source s where s.id = keep.source),
            'share row exclusive', interval '0', task <> 'leaves');
        if task = 'leaves' then
            perform freshet.make_triggers(source);
            return true;
        end if;
        -- One that was another's may have things of his on it, which would run with the keeper's rights.
        perform freshet.refit_change_table(source, task = 'rebuild' or exists (
            select from pg_catalog.pg_class c join pg_catalog.pg_proc p
                on p.oid = pg_catalog.to_regprocedure('freshet.keep_' || source || '(text, integer)') and p.proowner <> c.relowner
            where c.oid = pg_catalog.to_regclass('freshet.changes_' || source)));
        if task = 'renew' and exists (select from freshet.segment g where g.source_id = keep.source) then
            update freshet.segment g set current_since = null where g.source_id = keep.source;
            insert into freshet.segment (source_id, number, current_since)
            select keep.source, max(g.number) + 1, pg_catalog.clock_timestamp() from freshet.segment g where g.source_id = keep.source;
            update freshet.source s
            set segment = (select g.number from freshet.segment g where g.source_id = s.id and g.current_since is not null)
            where s.id = keep.source;
        end if;
        perform freshet.make_capture(source);
        perform freshet.grant_source(source);
        return true;
    elsif task = 'create' then
        insert into freshet.segment (source_id, number)
        select keep.source, max(g.number) + 1 from freshet.segment g where g.source_id = keep.source;
        perform freshet.make_change_table(source);
        perform freshet.grant_source(source);
        return true;
    elsif task = 'switch' then
        update freshet.segment g
        set current_since = case when g.number = keep.segment then pg_catalog.clock_timestamp() end,
            consumed_at = null, consumed = null
        where g.source_id = keep.source and (g.number = keep.segment or g.current_since is not null);
        update freshet.source s set segment = keep.segment where s.id = keep.source;
        perform freshet.make_capture_function(source);
        return true;
    elsif task = 'truncate' then
        select * into strict v_segment from freshet.segment g where g.source_id = keep.source and g.number = keep.segment;
        begin
            -- Readers and writers who come meanwhile wait as long.
            set local lock_timeout = '50ms';
            execute pg_catalog.format('lock table only %s in access exclusive mode', v_relation);
        exception when lock_not_available then
            return false;
        end;
        -- None of this is Freshet's, and it would run here, with the rights of the keeper's owner.
        select pg_catalog.string_agg(o.what, ', ') into v_alien
        from (
            select 'trigger ' || t.tgname from pg_catalog.pg_trigger t where t.tgrelid = v_relation::pg_catalog.regclass
            union all
            select 'rule ' || r.rulename from pg_catalog.pg_rewrite r where r.ev_class = v_relation::pg_catalog.regclass
            union all
            select 'policy ' || p.polname from pg_catalog.pg_policy p where p.polrelid = v_relation::pg_catalog.regclass) o (what);
        if v_alien is not null then
            raise exception '% is not emptied, for it has what Freshet has not made: %', v_relation, v_alien
                using errcode = 'object_not_in_prerequisite_state',
                      hint = pg_catalog.format('Drop that. If you do not know it, see what the owner of the table "%s" did.',
                          (select s.table_name from freshet.source s where s.id = keep.source));
        end if;
        -- Locked first and looked at then: a transaction that was open when the triggers
        -- went on may have written here since it was found to be consumed.
        if v_segment.current_since is not null or v_segment.consumed is null then
            return false;
        end if;
        if freshet.has_unseen(source, segment, v_segment.consumed) then
            update freshet.segment g set consumed_at = null, consumed = null
            where g.source_id = keep.source and g.number = keep.segment;
            return false;
        end if;
        execute pg_catalog.format('truncate only %s', v_relation);
        update freshet.source s set floor = v_segment.consumed
        where s.id = keep.source and freshet.snapshot_covers(v_segment.consumed, s.floor);
        update freshet.segment g set consumed_at = null, consumed = null
        where g.source_id = keep.source and g.number = keep.segment;
        return true;
    end if;
    raise exception 'task: "%" is unknown', task using errcode = 'invalid_parameter_value';
end
$$;

revoke all on function freshet.keep(integer, text, integer) from public;

-- The parts of a key with what is known of each column: {"text": …} and {"column": …,
-- "modifiers": […], "attnum": …, "type": …}. The type is what a key can be read back
-- with when the table is long gone.
create or replace function freshet.key_by_attnum(source oid, parts jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.jsonb_agg(
        case when p.part ? 'column'
            then p.part || (
                select pg_catalog.jsonb_build_object('attnum', a.attnum, 'type', freshet.base_type(a.atttypid)::bigint)
                from pg_catalog.pg_attribute a
                where a.attrelid = source and a.attname = p.part ->> 'column')
            else p.part
        end order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$$;

revoke all on function freshet.key_by_attnum(oid, jsonb) from public;

-- The characters that a column of a key can render to, as the inside of a regular
-- expression's brackets. Null: any text at all.
create or replace function freshet.key_class(type oid, modifiers jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when coalesce(modifiers, '[]') ? 'url' then 'A-Za-z0-9._~%-'
        when type in (20, 21, 23) then '0-9-'                       -- int8, int2, int4
        when type = 26 then '0-9'                                   -- oid
        when type = 16 then 'a-z'                                   -- bool
        when type = 2950 then '0-9a-f-'                             -- uuid
        when type in (700, 701, 1700) then '0-9.eINadfinty+-'       -- float4, float8, numeric
        when type = 1082 then '0-9BC infty-'                        -- date
        when type in (1083, 1114, 1184) then '0-9BC infty:.+-'      -- time, timestamp, timestamptz
        -- A class has a backslash twice, whatever standard_conforming_strings says.
        when type = 17 then E'\\\\x0-9a-f'                          -- bytea
    end
$$;

revoke all on function freshet.key_class(oid, jsonb) from public;

-- The template that parts of a key come from.
create or replace function freshet.key_text(parts jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $body$
    select pg_catalog.string_agg(
        case when p.part ? 'column'
            then '${' || pg_catalog.concat_ws('|', p.part ->> 'column', (
                select pg_catalog.string_agg(m.modifier, '|' order by m.n)
                from pg_catalog.jsonb_array_elements_text(p.part -> 'modifiers') with ordinality as m (modifier, n))) || '}'
            else pg_catalog.replace(p.part ->> 'text', '${', '$${') end,
        '' order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$body$;

revoke all on function freshet.key_text(jsonb) from public;

-- A key template as a list of tokens: '=x' is the character x, '[…]' any number of
-- characters of a class, '*' any text.
create or replace function freshet.key_tokens(parts jsonb)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.array_agg(t.token order by p.n, t.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
    cross join lateral (
        select '=' || c.character as token, c.n
        from pg_catalog.regexp_split_to_table(p.part ->> 'text', '') with ordinality as c (character, n)
        where p.part ? 'text'
        union all
        select coalesce('[' || freshet.key_class((p.part ->> 'type')::oid, p.part -> 'modifiers') || ']', '*'), 1
        where not p.part ? 'text'
    ) t
$$;

revoke all on function freshet.key_tokens(jsonb) from public;

-- Whether two key templates could render the same key.
create or replace function freshet.keys_overlap(one jsonb, other jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select freshet.tokens_overlap(freshet.key_tokens(one), freshet.key_tokens(other))
$$;

revoke all on function freshet.keys_overlap(jsonb, jsonb) from public;

-- Says that a worker is gone. What was offered to it goes to others.
create or replace function freshet.leave(worker text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease record;
begin
    delete from freshet.worker w where w.id = leave.worker;
    for v_lease in
        select l.id, l.epoch from freshet.lease l
        where l.offered_to = leave.worker and l.holder is null and l.finished_at is null
        order by l.id
        for update skip locked
    loop
        perform freshet.release_lease(v_lease.id, v_lease.epoch, '0');
    end loop;
end
$$;

revoke all on function freshet.leave(text) from public;

-- Whether a call of a function within a parsed expression leaves arguments to their defaults.
-- Those are put in place when the call is planned, and not in the tree before.
create or replace function freshet.leaves_out(tree text, function oid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_here   text := ':funcid ' || function || ' ';
    v_rest   text := tree;
    v_token  text;
    v_depth  integer;
    v_given  integer;
begin
    while pg_catalog.strpos(v_rest, v_here) > 0 loop
        v_rest := pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, v_here) + pg_catalog.length(v_here));
        v_depth := 0;
        v_given := 0;
        if pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, ':args ') + 6, 1) = '(' then
            -- A list of nodes: ({…} {…}). A backslash stands before what is part of a name.
            for v_token in
                select m[1]
                from pg_catalog.regexp_matches(pg_catalog.substr(v_rest, pg_catalog.strpos(v_rest, ':args ') + 6), E'(\\\\.|[(){}])', 'g') as m
            loop
                v_depth := v_depth + case when v_token in ('(', '{') then 1 when v_token in (')', '}') then -1 else 0 end;
                exit when v_depth = 0;
                if v_token = '{' and v_depth = 2 then
                    v_given := v_given + 1;
                end if;
            end loop;
        end if;
        if v_given < (select p.pronargs from pg_catalog.pg_proc p where p.oid = function) then
            return true;
        end if;
    end loop;
    return false;
end
$$;

revoke all on function freshet.leaves_out(text, oid) from public;

-- The worker that a lane had better go to: of those that are alive and could serve it, and have
-- at least two lanes less than `worker`, which holds it, the one with the fewest. Lanes count
-- for whom they are held by or on their way to.
create or replace function freshet.lighter_worker(lease bigint, worker text, silence interval)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with load as (
            select coalesce(o.holder, o.offered_to) as worker, count(*) as lanes
            from freshet.lease o
            where o.kind = 'sync' and o.finished_at is null
            group by 1)
        select w.id
        from freshet.lease l
        join freshet.sink s on s.id = l.sink_id
        cross join freshet.function_for(s, l) as n (function)
        join freshet.worker w on w.id <> lighter_worker.worker and w.heartbeat_at > pg_catalog.clock_timestamp() - silence
            and l.target = any (w.targets) and (n.function is null or n.function = any (w.transforms))
        left join load a on a.worker = w.id
        where l.id = lighter_worker.lease and l.kind = 'sync'
          and coalesce(a.lanes, 0) + 2 <= (select b.lanes from load b where b.worker = lighter_worker.worker)
        order by a.lanes nulls first, w.id
        limit 1);
end
$$;

revoke all on function freshet.lighter_worker(bigint, text, interval) from public;

-- The type of a list of values of a key column, as a row of the change table may have it for
-- many tuples; null where one makes none: of values that are lists or rows themselves.
create or replace function freshet.list_type(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case when t.typcategory <> 'A' and t.typtype <> 'c' and t.typarray <> 0 then freshet.type_name(t.typarray) end
    from pg_catalog.pg_type t
    where t.oid = freshet.change_type(type)::pg_catalog.regtype
$$;

revoke all on function freshet.list_type(oid) from public;

-- Keeps everybody else from looking after the capture of a source until the transaction ends:
-- from writing its trigger function anew, with the change table locked after it. Called before
-- any of that is locked. Who is at it ends soon; if not, this is an error after about ten
-- seconds.
create or replace function freshet.lock_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_until  timestamptz := pg_catalog.clock_timestamp() + interval '10 seconds';
begin
    while not pg_catalog.pg_try_advisory_xact_lock(1181905014, source) loop
        if pg_catalog.clock_timestamp() > v_until then
            raise exception 'source: somebody looks after the capture of % and does not end',
                (select pg_catalog.format('%I.%I', s.schema_name, s.table_name) from freshet.source s where s.id = lock_capture.source)
                using errcode = 'lock_not_available',
                      hint = 'See pg_locks for the advisory lock 1181905014 and pg_stat_activity for who has it, then run this again.';
        end if;
        perform pg_catalog.pg_sleep(0.02);
    end loop;
end
$$;

revoke all on function freshet.lock_capture(integer) from public;

-- Lets one transaction at a time change which sinks there are: what it checks (that no
-- other sink writes these keys, that none needs this capture) has to hold until it ends.
create or replace function freshet.lock_definitions()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_advisory_xact_lock(1181905013)
$$;

revoke all on function freshet.lock_definitions() from public;

-- Locks the leases of a sink's backfills, in one order, for whoever changes their ranges: a
-- worker that records a chunk locks its lease first and the range next, and a range refers to
-- its lease.
create or replace function freshet.lock_ranges(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from freshet.lease l where l.sink_id = lock_ranges.sink and l.kind = 'backfill' order by l.id for key share;
end
$$;

revoke all on function freshet.lock_ranges(integer) from public;

-- Locks a source as CREATE TRIGGER does, without making its writers queue for
-- long: short attempts with pauses, and an error when patience is at its end. Its change
-- table, if it has one yet, is locked in the same attempt unless changes is false: writers
-- come to it from the source and workers read it before the source, so that waiting for the
-- one with the other in hand would be a deadlock. An attempt that fails lets go of both, and
-- the next one does not begin before whoever this one failed for has let go.
--
-- Autovacuum may take hours, and Postgres ends it for who has waited for deadlock_timeout. So where only
-- that stays in the way, one attempt waits as long. Who has no patience comes again and again, and writers
-- queue meanwhile: there it is one time in five.
create or replace function freshet.lock_source(source oid, mode text, patience interval, changes boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_timeout  text := pg_catalog.current_setting('lock_timeout');
    v_name     text := (select 'freshet.changes_' || s.id from freshet.source s where s.relid = lock_source.source);
    v_until    timestamptz := pg_catalog.clock_timestamp()
        + case when patience = interval '0' and pg_catalog.random() < 0.2 then interval '0.5 seconds' else patience end;
    v_owner    oid := (select c.relowner from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass(v_name));
    v_holders  text[];
    v_attempt  text := '200ms';
    v_vacuums  text[];   -- for which that was tried
    v_long     interval := pg_catalog.current_setting('deadlock_timeout')::interval + interval '0.2 seconds';
begin
    if not pg_catalog.pg_has_role(v_owner, 'usage') then
        raise exception 'source: the capture of % belongs to "%"', source::pg_catalog.regclass, pg_catalog.pg_get_userbyid(v_owner)
            using errcode = 'insufficient_privilege',
                  hint = (select pg_catalog.format('Have a superuser run: select freshet.make_capture(%s);', s.id)
                          from freshet.source s where s.relid = lock_source.source);
    end if;
    loop
        if v_holders is null then
            begin
                perform pg_catalog.set_config('lock_timeout', v_attempt, true);
                execute pg_catalog.format('lock table %s in %s mode', source::pg_catalog.regclass, mode);
                if changes and pg_catalog.to_regclass(v_name) is not null then
                    execute pg_catalog.format('lock table %s in access exclusive mode', v_name);
                end if;
                perform pg_catalog.set_config('lock_timeout', v_timeout, true);
                return;
            exception when lock_not_available or deadlock_detected then
                perform pg_catalog.set_config('lock_timeout', v_timeout, true);
                v_holders := freshet.holders_of(source, mode, case when changes then v_name end);
                v_attempt := '200ms';
            when undefined_table then
                perform pg_catalog.set_config('lock_timeout', v_timeout, true);
                -- A change table that was dropped by hand while this waited for it is not there
                -- to be locked any more.
                if pg_catalog.clock_timestamp() > v_until or not exists (select from pg_catalog.pg_class c where c.oid = source) then
                    raise;
                end if;
            end;
        else
            select pg_catalog.array_agg(h) into v_holders
            from pg_catalog.unnest(freshet.holders_of(source, mode, case when changes then v_name end)) as h
            where h = any (v_holders);
            continue when v_holders is null;
        end if;
        if pg_catalog.clock_timestamp() >= v_until then
            raise exception 'source: % is in use by a transaction that does not end', source::pg_catalog.regclass
                using errcode = 'lock_not_available',
                      hint = 'Wait for it or end it (see pg_stat_activity), then run this again.';
        end if;
        -- By the second look those who just write have come and gone.
        if v_long <= interval '3 seconds' and v_holders is distinct from v_vacuums and freshet.are_vacuums(v_holders)
            -- One against wraparound is not ended.
            and not exists (
                select from pg_catalog.pg_class c
                where (c.oid = source or c.oid in (select t.relid from pg_catalog.pg_partition_tree(source) t)) and c.relkind = 'r'
                  and (pg_catalog.age(c.relfrozenxid) > pg_catalog.current_setting('autovacuum_freeze_max_age')::integer
                       or pg_catalog.mxid_age(c.relminmxid) > pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::integer))
        then
            v_attempt := (extract(epoch from v_long) * 1000)::integer || 'ms';
            v_vacuums := v_holders;
            v_holders := null;
            continue;
        end if;
        perform pg_catalog.pg_sleep(0.05 + pg_catalog.random() * 0.2);
    end loop;
end
$$;

revoke all on function freshet.lock_source(oid, text, interval, boolean) from public;

-- Writes the capture of a source anew: its keeper, the change table, which is the keeper's
-- owner's, and the trigger function and the triggers, which are the source's owner's. Called with
-- the source locked as CREATE TRIGGER locks it.
create or replace function freshet.make_capture(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Those who look after it have these locks already; not who was told to run this.
    perform freshet.lock_capture(source);
    perform freshet.lock_source(s.relid, 'share row exclusive', interval '10 seconds', true)
    from freshet.source s where s.id = make_capture.source;
    perform freshet.admit_owner(c.relowner)
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = make_capture.source;
    perform freshet.make_keeper(source);
    perform freshet.make_change_table(source);
    perform freshet.make_capture_function(source);
    perform freshet.make_triggers(source);
    perform freshet.grant_source(source);
end
$$;

revoke all on function freshet.make_capture(integer) from public;

-- Writes a source's trigger function anew, for its present key columns and segment. No
-- lock is needed: a transaction that is open goes on with the new one.
--
-- Statement-level triggers keep bulk writes near their old speed. Row-level ones are
-- for partitioned tables, where the parent's are inherited by every leaf and see the
-- writes sent straight to it, and for tables that a subscription writes to, whose
-- apply worker fires no others.
create or replace function freshet.make_capture_function(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source    freshet.source;
    v_owner     oid;
    v_segment   text;
    v_column    record;
    v_names     text := '';   -- k1, k2
    v_after     text := '';   -- freshet_new."id", freshet_new."tenant id"
    v_before    text := '';
    v_lists     text := '';   -- pg_catalog.array_agg(freshet_new."id"), …
    v_change    text[] := '{}';   -- of the key columns: the names in the change table
    v_sources   text[] := '{}';   -- in the source
    v_kinds     text[] := '{}';   -- the types in the change table
    v_lengths   integer[] := '{}';   -- how long values are; null if they have no one length, or may be null
    v_listed    boolean := true;   -- many tuples may share a row of the change table
    v_after_text   text := '';   -- the same, as text: its bytes, whatever the collation takes for equal
    v_before_text  text := '';
    v_new       text := '';   -- new."id", new."tenant id"
    v_old       text := '';
    v_exact     boolean := true;
    v_differs   text := '';   -- the old tuple and the new one render differently
    v_same      text := '';   -- what stays the same while the statements below stay right
    v_types     text := '';   -- the key columns as this function is made for them
    v_leaves    text := '';
    v_first     text := '';   -- a limit to the rows that have one tuple each
    v_packed    text[] := '{"", "", "", ""}';   -- and what writes the others, by an insert, an update (new and old tuples) and a delete
    v_update    text;
    v_olds      text := '';   -- o1, o2: where the change table has an old tuple beside the new one
    v_differ    text;         -- the tuples of a statement that updates one row do
    v_single    text := '';   -- what captures a statement that updates one row
    v_inserted  text;         -- what captures one that inserts
    v_deleted   text;
    v_captured  text := $sql$
            insert into %1$s (op, %2$s) select '%6$s', %3$s from freshet_%7$s%4$s;
            get diagnostics v_rows = row_count;%5$s$sql$;
    v_first_moments  text := '';
    v_failed    text;         -- what follows when anything was wrong
    v_by_row    boolean;       -- its triggers are row-level ones
    v_unique    boolean;       -- no two rows have the same tuple
    v_insert    text;
    v_widest    bigint := 60;  -- of a row of the change table, in bytes
    v_room      bigint;        -- so many rows are less than where capture stops
begin
    select * into strict v_source from freshet.source s where s.id = make_capture_function.source;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    v_segment := pg_catalog.format('freshet.%I', 'changes_' || source || '_' || v_source.segment);
    v_by_row := freshet.needs_row_triggers(v_source.relid);

    for v_column in
        select 'k' || a.attnum as name,
               pg_catalog.quote_ident(a.attname) as source_name,
               freshet.is_exact(v_source.relid, a.attnum) as exact,
               freshet.change_type(a.atttypid) as type, freshet.list_type(a.atttypid) is not null as listed,
               a.attlen as length, a.attnotnull, a.attname, a.atttypid
        from pg_catalog.unnest(v_source.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = v_source.relid and a.attnum = k.attnum
        order by a.attnum
    loop
        v_names := v_names || ', ' || v_column.name;
        v_olds := v_olds || ', o' || pg_catalog.substr(v_column.name, 2);
        v_after := v_after || ', freshet_new.' || v_column.source_name;
        v_before := v_before || ', freshet_old.' || v_column.source_name;
        v_lists := v_lists || pg_catalog.format(', pg_catalog.array_agg(freshet_new.%s)', v_column.source_name);
        v_after_text := v_after_text || pg_catalog.format(', freshet_new.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_before_text := v_before_text || pg_catalog.format(', freshet_old.%s::pg_catalog.text collate pg_catalog."C"', v_column.source_name);
        v_new := v_new || ', new.' || v_column.source_name;
        v_old := v_old || ', old.' || v_column.source_name;
        v_exact := v_exact and v_column.exact;
        v_change := v_change || v_column.name;
        v_sources := v_sources || v_column.source_name;
        v_kinds := v_kinds || v_column.type;
        v_lengths := v_lengths || case when v_column.length > 0 and v_column.attnotnull then greatest(v_column.length, 8) end;
        v_listed := v_listed and v_column.listed;
        v_widest := v_widest + case when v_column.length > 0 then v_column.length + 8 else 8192 end;
        v_differs := v_differs || pg_catalog.format(
            case when v_column.exact then ' or old.%1$s is distinct from new.%1$s'
                else ' or pg_catalog.record_image_ne(row(old.%1$s), row(new.%1$s))' end, v_column.source_name);
        v_same := v_same || pg_catalog.format(' || pg_catalog.pg_describe_object(1259, %s, %s)',
            v_source.relid, pg_catalog.substr(v_column.name, 2));
        v_types := v_types || pg_catalog.format(' or a.attname = %L and a.atttypid = %s', v_column.attname, v_column.atttypid);
    end loop;
    if v_listed and v_names <> '' and not v_by_row then
        v_widest := v_widest + 1800;
        v_first := ' limit 17';
        select pg_catalog.array_agg(pg_catalog.format($sql$
            if v_rows = 17 then%s
            end if;$sql$, freshet.pack_rows(v_segment, p.op, p.relation, v_change, v_sources, v_kinds, v_lengths, p.others)) order by p.n)
        into v_packed
        from (values (1, 'i', 'freshet_new', null), (2, 'u', 'freshet_new', 'freshet_old'), (3, 'u', 'freshet_old', null), (4, 'd', 'freshet_old', null))
            as p (n, op, relation, others);
    end if;
    select (i.stop_bytes - pg_catalog.pg_relation_size(v_segment::pg_catalog.regclass)) / v_widest
        + coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.format('freshet.%I', 'changes_' || source || '_id')::pg_catalog.regclass), 0)
    into v_room
    from freshet.installation i;
    v_names := pg_catalog.substr(v_names, 3);
    v_after := pg_catalog.substr(v_after, 3);
    v_before := pg_catalog.substr(v_before, 3);
    v_olds := pg_catalog.substr(v_olds, 3);

    -- An update touches the new tuples, and the old ones too where they render
    -- differently. UNION and EXCEPT and not an anti-join: a plan made for one row is kept
    -- for the statement that updates a million, and must not turn quadratic there. Where
    -- no tuple can come twice, the new ones are written in the order of the rows, which
    -- mostly is that of their keys, and quicker to look up; and the old ones only if any of many
    -- has changed. Both transition tables have the rows in one order, so that this is told by
    -- comparing lists, in an eighth of the time, where these cannot get too large. Columns that are equal in
    -- SQL and differ as text are told apart by their text.
    --
    -- Most statements update one row. One insert has both of its tuples then, the old one beside the
    -- new one, and asks for them in a way that fails where there are more rows.
    v_unique := exists (
        select from pg_catalog.pg_index i
        where i.indrelid = v_source.relid and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
          and (i.indkey::smallint[])[0 : i.indnkeyatts - 1] <@ v_source.key_attnums);
    if v_names = '' or v_by_row then
        null; -- such triggers see one row anyway
    elsif v_exact and pg_catalog.cardinality(v_change) = 1 then
        v_differ := pg_catalog.format('(select %s from freshet_new) is distinct from (select %s from freshet_old)', v_after, v_before);
        v_single := pg_catalog.format($sql$
                    insert into %1$s (op, %2$s, %3$s)
                    select 'u', %4$s, nullif((select %5$s from freshet_old), %4$s) from freshet_new;$sql$,
            v_segment, v_names, v_olds, v_after, v_before);
    else
        v_differ := pg_catalog.format('pg_catalog.record_image_ne((select row(%s) from freshet_new), (select row(%s) from freshet_old))', v_after, v_before);
        v_single := pg_catalog.format($sql$
                    insert into %1$s (op, %2$s, %3$s)
                    select (select 'u'::pg_catalog."char" from freshet_old), %4$s, %5$s
                    from freshet_new left join freshet_old on pg_catalog.record_image_ne(row(%5$s), row(%4$s));$sql$,
            v_segment, v_names, v_olds, v_after, v_before);
    end if;
    if v_names = '' then
        v_update := '';
    elsif v_unique then
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s) select 'u', %3$s from freshet_new%5$s;
            get diagnostics v_rows = row_count;
            if v_rows = 1 then
                if %11$s then
                    insert into %1$s (op, %2$s) select 'u', %4$s from freshet_old;
                end if;
            else%6$s%8$s
                    v_moved := exists (select %9$s from freshet_old except select %10$s from freshet_new);
                end if;
                if v_moved then
                    insert into %1$s (op, %2$s) select 'u', %4$s from freshet_old%5$s;%7$s
                end if;
            end if;$sql$, v_segment, v_names, v_after, v_before, v_first, v_packed[2], v_packed[3],
            case when v_first = '' or pg_catalog.array_position(v_lengths, null) is not null then $sql$
                if v_rows > 1 then$sql$
                else pg_catalog.format($sql$
                if v_rows < 17 or not v_moved then
                    v_moved := pg_catalog.record_image_ne(
                        (select row(%1$s) from (select %2$s from freshet_new%4$s) as freshet_new), (select row(%1$s) from (select %3$s from freshet_old%4$s) as freshet_new));
                elsif v_moved is null then$sql$, pg_catalog.substr(v_lists, 3), v_after, v_before, v_first) end,
            -- By value too: the session may print different ones alike.
            v_before || case when v_exact then '' else v_before_text end,
            v_after || case when v_exact then '' else v_after_text end,
            v_differ);
    elsif v_exact then
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s) select 'u', both_tuples.* from (select %3$s from freshet_new union select %4$s from freshet_old) as both_tuples;
            get diagnostics v_rows = row_count;$sql$, v_segment, v_names, v_after, v_before);
    else
        v_update := pg_catalog.format($sql$
            insert into %1$s (op, %2$s)
            select 'u', %2$s from (select %3$s, %4$s from freshet_new union select %5$s, %6$s from freshet_old) as both_rows (%2$s, %7$s);
            get diagnostics v_rows = row_count;$sql$, v_segment, v_names, v_after, pg_catalog.substr(v_after_text, 3),
            v_before, pg_catalog.substr(v_before_text, 3), pg_catalog.replace(v_names, 'k', 'r'));
    end if;

    if v_names = '' then
        -- Every key column was dropped, and every sink is stopped.
        v_insert := '        v_rows := 0;';
    elsif v_by_row then
        v_insert := pg_catalog.format($sql$
        v_rows := 1;
        if tg_op = 'UPDATE' then
            insert into %1$s (op, %2$s) values ('u', %3$s);
            if %5$s then
                insert into %1$s (op, %2$s) values ('u', %4$s);
            end if;
        elsif tg_op = 'INSERT' then
            insert into %1$s (op, %2$s) values ('i', %3$s);
        elsif tg_op = 'DELETE' then
            insert into %1$s (op, %2$s) values ('d', %4$s);
        else
            insert into %1$s (op) values ('t');
        end if;
$sql$, v_segment, v_names,
            pg_catalog.substr(v_new, 3), pg_catalog.substr(v_old, 3), pg_catalog.substr(v_differs, 5));
    else
        v_inserted := pg_catalog.format(v_captured, v_segment, v_names, v_after, v_first, v_packed[1], 'i', 'new');
        v_deleted := pg_catalog.format(v_captured, v_segment, v_names, v_before, v_first, v_packed[4], 'd', 'old');
        v_insert := pg_catalog.format($sql$
        if tg_name = 'freshet_update' then%2$s
        elsif tg_name = 'freshet_insert' then%3$s
        elsif tg_name = 'freshet_delete' then%4$s
        elsif tg_name = 'freshet_truncate' then
            insert into %1$s (op) values ('t');
            v_rows := 1;
        else
            v_rows := 0;
        end if;
$sql$, v_segment, v_update, v_inserted, v_deleted);
    end if;

    -- The first call of a transaction runs under an exception block, so that
    -- whatever is wrong with the change table becomes a gap and not the
    -- application's error. The locks it took keep others from changing that until the
    -- transaction ends, so later calls go without: a subtransaction in each of them
    -- would slow down every other session of the server. What the transaction itself
    -- may change (the names of the key columns, and their types, which rewrites the
    -- table), and the segment, which may have been rotated since, are compared with how
    -- they were in the first call. Nothing goes without a block while the right to use the
    -- schema is missing: it may be revoked meanwhile.
    --
    -- Of a partitioned table this is remembered for each leaf. But only the first leaf has
    -- its call under a block: a load of a hundred partitions would have a hundred
    -- subtransactions. The others rely on the locks of that one, without which nobody can
    -- alter a column of the whole table, and have no columns of their own to differ in.
    -- Their types are looked up once for each leaf all the same, for what this session has
    -- planned for a leaf before they were altered would fail.
    --
    -- Once a gap is on record, the rest of the transaction adds nothing to it: everything is
    -- warmed again. So it is not tried row by row, in a subtransaction each, to capture what
    -- cannot be. The mark that says so is made with the gap and rolled back with it.
    --
    -- To remember a call costs about as much as one under an exception block, and most
    -- transactions have only one. So in the first half millisecond of a transaction none is
    -- remembered, and each has its block: there is no time for many of them. See
    -- freshet.first_moments.
    --
    -- A sleeping worker holds the advisory lock. Failing to share it means that
    -- somebody sleeps and wants the bell; holding it keeps them from falling asleep
    -- before this transaction has ended. With the notification queue half full the
    -- bell stays silent: a full one would fail the commit.
    --
    -- Whoever may use the schema can make a trigger of this function on a table of his
    -- own, with columns of types of his own, whose casts would run with the rights of the
    -- source's owner: nothing of a row is looked at before it is known to be the source's. Nor is
    -- anything looked at in triggers of other names than ours, where freshet_new and freshet_old
    -- may be temporary tables of the session's. One of ours that was renamed is noticed as missing.
    --
    -- pg_temp comes last, for types are looked for there first if nothing else is said, and
    -- the check of a domain called text would run with those rights too. And what fails here is
    -- no reason to end the session, whatever that says of errors.
    if exists (select from pg_catalog.pg_class c where c.oid = v_source.relid and c.relkind = 'p') then
        v_leaves := pg_catalog.format($sql$
        if not v_guarded and pg_catalog.current_setting('freshet.guarded_%1$s', true) = v_columns
            and (select count(*) from pg_catalog.pg_attribute a
                 where a.attrelid = tg_relid and not a.attisdropped and (%2$s)) = %3$s
        then
            perform pg_catalog.set_config('freshet.guarded_%1$s_' || tg_relid, v_same, true);
            v_guarded := true;
        end if;
$sql$, source, pg_catalog.substr(v_types, 5), pg_catalog.cardinality(v_source.key_attnums));
    end if;
    -- The owner may not even use the schema any more, and the disk may be full. A sequence needs no room for a row, and by
    -- its number no right on the schema. What the owner may not do he may not do for the next row either.
    -- Only what is to be tried again passes: that transaction cannot commit, and the sequence is not rolled back with it.
    v_failed := pg_catalog.format($sql$
    when serialization_failure then
        raise;
    when others then
        begin
            perform freshet.record_gap(%1$s, tg_op, sqlstate, sqlerrm);
        exception when serialization_failure then
            raise;
        when others then
            begin
                perform pg_catalog.nextval(%2$s::oid);
            exception when others then
                null;
            end;
            raise warning 'freshet: a change of source %1$s was not captured and could not be recorded as a gap either: %%', sqlerrm;
            if sqlstate in ('42501', '3F000', '42883', '54000') then
                perform pg_catalog.set_config('freshet.missed_%1$s', pg_catalog.pg_current_xact_id()::text, true);
            end if;
        end;$sql$, source, ('freshet.changes_' || source || '_unrecorded')::pg_catalog.regclass::oid);
    if v_single <> '' then
        v_first_moments := freshet.first_moments(source, v_source.relid, v_segment, v_room,
            (select i.stop_bytes from freshet.installation i), v_single, v_inserted, v_deleted, v_failed);
    end if;
    execute pg_catalog.format(
        'create or replace function freshet.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp set exit_on_error = off as %L',
        'capture_' || source,
        pg_catalog.format($sql$
declare
    v_young    boolean;
    v_columns  text;
    v_same     text;
    v_guarded  boolean;
    v_rows     bigint;
    v_packed   bigint;
    v_moved    boolean;
begin%12$s
    v_young := pg_catalog.clock_timestamp() < current_timestamp + interval '0.5 milliseconds';
    if tg_relid <> %7$s then
        if tg_op <> 'TRUNCATE' and (
            pg_catalog.pg_partition_root(tg_relid) is null
            or pg_catalog.pg_partition_root(tg_relid) is distinct from pg_catalog.pg_partition_root(%7$s))
        then
            if pg_catalog.current_setting('freshet.missed_%1$s', true) = pg_catalog.pg_current_xact_id_if_assigned()::text then
                return null;
            end if;
            begin
                raise exception using errcode = 'wrong_object_type',
                    message = pg_catalog.format('the trigger is on %%I.%%I, which is not the source', tg_table_schema, tg_table_name);
            exception%13$s
            end;
            return null;
        end if;
    end if;
    if not v_young then
        v_columns := case when pg_catalog.has_schema_privilege(%9$s::oid, 'usage') and pg_catalog.has_table_privilege(%14$s::oid, 'insert')
            and pg_catalog.has_sequence_privilege(%15$s::oid, 'usage') then '%4$s'%3$s end;
        v_same := v_columns || ' ' || coalesce(pg_catalog.pg_relation_filenode(tg_relid), 0)::text;
        v_guarded := coalesce(pg_catalog.current_setting('freshet.guarded_%1$s_' || tg_relid, true) = v_same, false);%10$s
        if v_guarded then
%2$s
            return null;
        end if;
        if pg_catalog.current_setting('freshet.missed_%1$s', true) = pg_catalog.pg_current_xact_id_if_assigned()::text then
            return null;
        end if;
    end if;
    begin
        -- With no worker to empty it, it must not fill the disk either. The numbers of its
        -- rows say, at a tenth of the cost, that it cannot be that large yet.
        if pg_catalog.pg_sequence_last_value('freshet.changes_%1$s_id') > %8$s then
            if pg_catalog.pg_relation_size('%5$s') > %6$s then
                perform freshet.record_gap(%1$s, tg_op, 'lapsed', 'the change table is full, for no worker runs');
                return null;
            end if;
        end if;
%2$s
        if v_rows > 0 and not pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, %1$s) then
            if pg_catalog.current_setting('max_prepared_transactions') = '0' and pg_catalog.pg_notification_queue_usage() < 0.5 then
                perform pg_catalog.pg_notify('freshet_bell', '%1$s');
            end if;
        end if;
        if not v_young and v_rows > 0 then
            perform pg_catalog.set_config('freshet.guarded_%1$s_' || tg_relid, coalesce(v_same, ''), true)%11$s;
        end if;
    exception%13$s
    end;
    return null;
end
$sql$, source, v_insert, v_same, v_source.segment, v_segment,
        (select i.stop_bytes from freshet.installation i), v_source.relid, v_room,
        'freshet'::pg_catalog.regnamespace::oid, v_leaves,
        case when v_leaves <> '' then pg_catalog.format(', pg_catalog.set_config(%L, coalesce(v_columns, %L), true)', 'freshet.guarded_' || source, '') end,
        v_first_moments, v_failed,
        v_segment::pg_catalog.regclass::oid, ('freshet.changes_' || source || '_id')::pg_catalog.regclass::oid));

    if not exists (
        select from pg_catalog.pg_proc p
        where p.oid = pg_catalog.format('freshet.%I()', 'capture_' || source)::pg_catalog.regprocedure and p.proowner = v_owner)
    then
        execute pg_catalog.format('alter function freshet.%I() owner to %I', 'capture_' || source, pg_catalog.pg_get_userbyid(v_owner));
    end if;

end
$$;

revoke all on function freshet.make_capture_function(integer) from public;

-- Makes what is missing of a source's change table: the parent, which is what is read; a
-- column for each key column of its sinks, one for the value it had before where a row is of an
-- update that changed the tuple, and one for lists of its values, in which one row
-- has the tuples of many rows of a statement; the segments, of which triggers write to
-- one while consumed ones are emptied whole; and a sequence that says whether gaps went unrecorded.
--
-- All of it belongs to the keeper's owner, who empties it with his rights: another could have a trigger
-- of his run with them. The source's owner, as whom triggers run, is granted what they need.
drop sequence if exists freshet.unrecorded; -- the one for all sources that there was
create or replace function freshet.make_change_table(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   freshet.source;
    v_owner    oid;
    v_keeper   oid;   -- the owner of all this
    v_changes  text;
    v_segment  text;
    v_column   record;
    v_number   integer;
    v_own      pg_catalog.regclass;
    v_right    record;
    v_unrecorded  text := pg_catalog.format('freshet.%I', 'changes_' || source || '_unrecorded');
begin
    select * into strict v_source from freshet.source s where s.id = make_change_table.source;
    select c.relowner into v_owner from pg_catalog.pg_class c where c.oid = v_source.relid;
    select p.proowner into strict v_keeper from pg_catalog.pg_proc p
    where p.oid = pg_catalog.format('freshet.%I(text, integer)', 'keep_' || source)::pg_catalog.regprocedure;
    v_changes := pg_catalog.format('freshet.%I', 'changes_' || source);

    if pg_catalog.to_regclass(v_changes) is null then
        execute pg_catalog.format('create sequence freshet.%I cache 100', 'changes_' || source || '_id');
        execute pg_catalog.format(
            'create table %s ('
            'id bigint not null default pg_catalog.nextval(%L), '
            'xid xid8 not null default pg_catalog.pg_current_xact_id(), '
            'at timestamptz not null default current_timestamp, '
            'op "char" not null, '
            'tuples smallint)',
            v_changes, pg_catalog.format('freshet.%I', 'changes_' || source || '_id'));
        execute pg_catalog.format('alter sequence freshet.%I owned by %s.id', 'changes_' || source || '_id', v_changes);
        -- Nothing is ever in the parent itself; without an index it would still be scanned.
        execute pg_catalog.format('create index on %s (xid, id)', v_changes);
        execute pg_catalog.format('revoke all on %s from public', v_changes);
    end if;

    -- Only those that are not there: even an ALTER TABLE with nothing to do waits for whoever
    -- reads the change table, and workers would wait for it.
    for v_column in
        select c.name, c.type,
               case when a.attcollation = 0 then ''
                   else (select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)
                         from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                         where c.oid = a.attcollation) end as collation
        from pg_catalog.unnest(v_source.key_attnums) as k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = v_source.relid and a.attnum = k.attnum
        cross join lateral (values
            (1, 'k' || a.attnum, freshet.change_type(a.atttypid)),
            (2, 'o' || a.attnum, freshet.change_type(a.atttypid)),
            (3, 'k' || a.attnum || 's', freshet.list_type(a.atttypid))) as c (n, name, type)
        where c.type is not null and not exists (
            select from pg_catalog.pg_attribute h
            where h.attrelid = v_changes::pg_catalog.regclass and h.attname = c.name and not h.attisdropped)
        order by a.attnum, c.n
    loop
        execute pg_catalog.format('alter table %s add column %I %s%s', v_changes, v_column.name, v_column.type, v_column.collation);
    end loop;

    -- The second is for the first rotation: who reads has to know a segment for a while
    -- before anybody writes to it.
    insert into freshet.segment (source_id, number, current_since)
    select source, v_source.segment + n, case n when 0 then pg_catalog.clock_timestamp() end
    from pg_catalog.generate_series(0, 1) as n
    where not exists (select from freshet.segment g where g.source_id = make_change_table.source);
    for v_number in
        select g.number from freshet.segment g where g.source_id = make_change_table.source order by g.number
    loop
        v_segment := pg_catalog.format('freshet.%I', 'changes_' || source || '_' || v_number);
        if pg_catalog.to_regclass(v_segment) is null then
            execute pg_catalog.format('create table %s () inherits (%s)', v_segment, v_changes);
            execute pg_catalog.format('create index on %s (xid, id)', v_segment);
            execute pg_catalog.format('revoke all on %s from public', v_segment);
        end if;
    end loop;
    -- New ones, and those of a keeper that was given another owner.
    for v_own in
        select c.oid::pg_catalog.regclass
        from pg_catalog.pg_class c
        where c.relowner <> v_keeper
          and (c.oid = v_changes::pg_catalog.regclass
               or c.oid in (select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = v_changes::pg_catalog.regclass))
    loop
        execute pg_catalog.format('alter table %s owner to %I', v_own, pg_catalog.pg_get_userbyid(v_keeper));
    end loop;
    -- Goes on where not even a gap could be recorded, such as on a disk that is full: it needs no room, and
    -- stays when a transaction is rolled back.
    if pg_catalog.to_regclass(v_unrecorded) is null then
        execute pg_catalog.format('create sequence %s', v_unrecorded);
        execute pg_catalog.format('alter sequence %s owner to %I', v_unrecorded, pg_catalog.pg_get_userbyid(v_keeper));
        execute pg_catalog.format('alter sequence %s owned by %s.id', v_unrecorded, v_changes);
        execute pg_catalog.format('revoke all on sequence %s from public', v_unrecorded);
    end if;

    -- What triggers need is granted to the source's owner himself, for he may leave the roles that have it
    -- too, and taken from who owned it before.
    for v_right in
        select case c.relkind when 'S' then 'usage on sequence ' else 'insert on ' end || c.oid::pg_catalog.regclass as name, g.grantee, g.owner
        from pg_catalog.pg_class c
        cross join lateral (
            select v_owner as grantee, true as owner
            where v_owner <> c.relowner and not exists (
                select from pg_catalog.aclexplode(c.relacl) a
                where a.grantee = v_owner and a.privilege_type = case c.relkind when 'S' then 'USAGE' else 'INSERT' end)
            union all
            select a.grantee, false from pg_catalog.aclexplode(c.relacl) a
            where a.privilege_type = case c.relkind when 'S' then 'USAGE' else 'INSERT' end
              and a.grantee <> all (array[0, v_owner, c.relowner])
              and pg_catalog.pg_get_userbyid(a.grantee) not in ('freshet_admin', 'freshet_worker')) g
        where c.relnamespace = 'freshet'::pg_catalog.regnamespace
          and c.relname ~ ('^changes_' || source || '_(id|unrecorded|[0-9]+)$') and c.relkind in ('r', 'S')
    loop
        execute pg_catalog.format(case when v_right.owner then 'grant %s to %I' else 'revoke %s from %I' end,
            v_right.name, pg_catalog.pg_get_userbyid(v_right.grantee));
    end loop;
end
$$;

revoke all on function freshet.make_change_table(integer) from public;

-- Makes the function through which workers look after a source's capture, for tables and
-- triggers are not the workers' own. It has the rights of the source's owner, or of who
-- made it where the owner may not use Freshet; and it does nothing but what freshet.keep
-- does for this one source.
create or replace function freshet.make_keeper(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_keeper  text := pg_catalog.format('freshet.%I', 'keep_' || source);
    v_owner   oid;
    v_role    text;
begin
    if pg_catalog.to_regprocedure(v_keeper || '(text, integer)') is null then
        execute pg_catalog.format($sql$
create function %s(task text, segment integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return freshet.keep(%s, task, segment);
end
$$
$sql$, v_keeper, source);
        execute pg_catalog.format('revoke all on function %s(text, integer) from public', v_keeper);
        foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
            if pg_catalog.to_regrole(v_role) is not null then
                execute pg_catalog.format('grant execute on function %s(text, integer) to %I', v_keeper, v_role);
            end if;
        end loop;
    end if;
    -- One that an earlier version has made.
    if exists (
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and p.proconfig is distinct from array['search_path=pg_catalog, pg_temp'] and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) set search_path = pg_catalog, pg_temp', v_keeper);
    end if;
    select c.relowner into v_owner
    from freshet.source s join pg_catalog.pg_class c on c.oid = s.relid
    where s.id = make_keeper.source;
    if pg_catalog.has_schema_privilege(v_owner, 'freshet', 'create') and exists (
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and p.proowner <> v_owner and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) owner to %I', v_keeper, pg_catalog.pg_get_userbyid(v_owner));
    elsif exists (
        -- That of a former owner, who can do nothing for this one.
        select from pg_catalog.pg_proc p
        where p.oid = (v_keeper || '(text, integer)')::pg_catalog.regprocedure
          and not pg_catalog.pg_has_role(p.proowner, v_owner, 'usage') and pg_catalog.pg_has_role(p.proowner, 'usage'))
    then
        execute pg_catalog.format('alter function %s(text, integer) owner to %I', v_keeper, current_user);
    end if;
end
$body$;

revoke all on function freshet.make_keeper(integer) from public;

-- Makes what is missing of a source's triggers, enables them, and drops those of the other
-- level and of other names, which capture nothing.
create or replace function freshet.make_triggers(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid     oid;
    v_table     text;
    v_rows      boolean;
    v_function  oid := pg_catalog.format('freshet.%I()', 'capture_' || source)::pg_catalog.regprocedure;
    v_trigger   record;
    v_leaf      oid;
    v_timeout   text := pg_catalog.current_setting('lock_timeout');
begin
    select s.relid, s.relid::pg_catalog.regclass::text into strict v_relid, v_table
    from freshet.source s where s.id = make_triggers.source;
    v_rows := freshet.needs_row_triggers(v_relid);

    for v_trigger in
        select t.tgname as name
        from pg_catalog.pg_trigger t
        where t.tgrelid = v_relid and t.tgfoid = v_function
          and t.tgname <> all (case when v_rows then array['freshet_row_' || source, 'freshet_truncate']
              else array['freshet_insert', 'freshet_update', 'freshet_delete', 'freshet_truncate'] end)
    loop
        execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_table);
    end loop;

    for v_trigger in
        select t.name, t.event, t.level, t.tables from (values
            ('freshet_insert', 'insert', 'statement', 'referencing new table as freshet_new', false),
            ('freshet_update', 'update', 'statement', 'referencing old table as freshet_old new table as freshet_new', false),
            ('freshet_delete', 'delete', 'statement', 'referencing old table as freshet_old', false),
            -- Partitions have it under the same name, and may have been a source by themselves.
            ('freshet_row_' || source, 'insert or update or delete', 'row', '', true),
            ('freshet_truncate', 'truncate', 'statement', '', null)
        ) as t (name, event, level, tables, rows)
        where t.rows is null or t.rows = v_rows
    loop
        -- One of that name that runs something else is not ours any more.
        if exists (
            select from pg_catalog.pg_trigger t
            where t.tgrelid = v_relid and t.tgname = v_trigger.name and t.tgfoid <> v_function)
        then
            execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_table);
        end if;
        if not exists (
            select from pg_catalog.pg_trigger t
            where t.tgrelid = v_relid and t.tgname = v_trigger.name)
        then
            execute pg_catalog.format(
                'create trigger %I after %s on %s %s for each %s execute function freshet.%I()',
                v_trigger.name, v_trigger.event, v_table, v_trigger.tables, v_trigger.level, 'capture_' || source);
        end if;
        -- Also for sessions that load data with session_replication_role = replica.
        execute pg_catalog.format('alter table %s enable always trigger %I', v_table, v_trigger.name);
    end loop;

    -- A leaf that is truncated by itself fires no trigger of its parents.
    for v_leaf in
        select p.relid from freshet.partitions_of(v_relid) p
        join pg_catalog.pg_class c on c.oid = p.relid
        -- Foreign ones are refused by freshet.check_kind, and some versions know no such triggers on them.
        where c.relkind <> 'f'
    loop
        if not exists (
            select from pg_catalog.pg_trigger t where t.tgrelid = v_leaf and t.tgname = 'freshet_truncate')
        then
            execute pg_catalog.format(
                'create trigger freshet_truncate after truncate on %s for each statement execute function freshet.%I()',
                v_leaf::pg_catalog.regclass, 'capture_' || source);
        end if;
        -- The leaf's copies of the parent's triggers too.
        for v_trigger in
            select t.tgname as name from pg_catalog.pg_trigger t
            where t.tgrelid = v_leaf and t.tgfoid = v_function and t.tgenabled <> 'A'
        loop
            execute pg_catalog.format('alter table %s enable always trigger %I', v_leaf::pg_catalog.regclass, v_trigger.name);
        end loop;
    end loop;

    -- A leaf that was detached, or a table that this source no longer is.
    for v_trigger in
        select t.tgname as name, t.tgrelid::pg_catalog.regclass as relation
        from pg_catalog.pg_trigger t
        where t.tgfoid = v_function and t.tgparentid = 0
          and t.tgrelid not in (select p.relid from freshet.partitions_of(v_relid) p) and t.tgrelid <> v_relid
    loop
        -- Not waited for: it captures nothing there, and may be dropped another time.
        begin
            perform pg_catalog.set_config('lock_timeout', '50ms', true);
            execute pg_catalog.format('drop trigger %I on %s', v_trigger.name, v_trigger.relation);
        exception when lock_not_available then
            null;
        end;
        perform pg_catalog.set_config('lock_timeout', v_timeout, true);
    end loop;
end
$$;

revoke all on function freshet.make_triggers(integer) from public;

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

-- What follows for the sinks of a source from what became of it: `was` and `now` are its
-- fingerprints, `rebased` says that it is another table. `missed`: any change may have been missed;
-- `large`: rows came that nobody has touched; `gone`: rows may be gone without a trigger; `unfit`:
-- it cannot be captured, as the source's fingerprint will say: asked anew, it could be over before
-- the next look. Returns what was the matter with the sinks themselves.
create or replace function freshet.mend_sinks(
    source   integer,
    was      jsonb,
    now      jsonb,
    rebased  boolean,
    missed   boolean,
    large    boolean,
    gone     boolean,
    unfit    boolean,
    out why  text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns   boolean := now -> 'columns' is distinct from was -> 'columns';
    v_moved     boolean := was ? 'relation' and now -> 'relation' is distinct from was -> 'relation';
    -- names that can have come to mean something else: those of columns that are not what they were, and with a column
    -- gone or renamed the table's, which stands for whole rows. What a transform reads, its text need not say.
    v_names     text[] := (
        select pg_catalog.array_agg(distinct pg_catalog.lower(x.name))
        from pg_catalog.jsonb_each(was -> 'columns') w
        cross join lateral (values (w.value ->> 0), (now -> 'columns' -> w.key ->> 0), ((select o.table_name from freshet.source o where o.id = mend_sinks.source)::text)) as x (name)
        where now -> 'columns' -> w.key is distinct from w.value and x.name is not null);
    v_retyped   boolean := exists (
        select from pg_catalog.jsonb_each(was -> 'columns') w join pg_catalog.jsonb_each(now -> 'columns') n on n.key = w.key
        where n.value - 0 <> w.value - 0);
    v_sink      record;
    v_reshaped  boolean;            -- its entries have other columns
    v_rewarm    boolean;
begin
    why := '{}';
    for v_sink in
        select s.id, s.on_schema_change, s.broken, s.grouped, s.value_type,
               coalesce(s.filter, s.expires_at, s.value, s.transform) is not null and (
                   v_moved or s.transform is not null and v_names is not null or exists (
                       select from pg_catalog.unnest(v_names) as n (name)
                       where pg_catalog.strpos(pg_catalog.lower(pg_catalog.concat_ws(' ', s.filter, s.expires_at, s.value)), pg_catalog.replace(n.name, '"', '""')) > 0)) as shifted,
               exists (
                   select from pg_catalog.jsonb_array_elements(s.calls) as c (call)
                   where now -> 'calls' -> c.call::text <> was -> 'calls' -> c.call::text) as recalled,
               exists (
                   select from (
                       select u from pg_catalog.unnest(s.column_attnums || s.key_attnums) as u
                       union
                       select k::smallint from pg_catalog.jsonb_object_keys(now -> 'columns') as k where s.column_attnums is null
                       union
                       select k::smallint from pg_catalog.jsonb_object_keys(was -> 'columns') as k where s.column_attnums is null) as u (attnum)
                   where now -> 'columns' -> u.attnum::text is distinct from was -> 'columns' -> u.attnum::text) as reshaped
        from freshet.sink s
        where s.source_id = mend_sinks.source and s.state <> 'dropping'
        order by s.id
    loop
        if v_columns or v_moved or missed or v_sink.recalled or now -> 'unique' is distinct from was -> 'unique' or v_sink.broken is not null then
            perform freshet.resurvey(v_sink.id);
        end if;
        v_reshaped := v_sink.reshaped and was <> '{}' or v_sink.shifted or rebased
            -- Nobody who reads comes upon that any more: it is what is expected from now on.
            or exists (select from freshet.sink s where s.id = v_sink.id and s.value_type is distinct from v_sink.value_type);
        -- A group whose rows are gone in part is no orphan.
        v_rewarm := missed or large or v_sink.recalled or gone and v_sink.grouped or v_reshaped and v_sink.on_schema_change = 'rewarm';
        if v_sink.recalled then
            why := why || 'a function of a sink was replaced'::text;
        end if;
        if v_reshaped then
            why := why || 'columns of a sink were changed'::text;
            update freshet.sink s
            set notice = case when not v_rewarm then pg_catalog.format(
                    'columns of the source were changed on %s: run select freshet.backfill(%L) to give older entries their new shape',
                    pg_catalog.to_char(pg_catalog.now(), 'YYYY-MM-DD'), s.name) end
            where s.id = v_sink.id;
        end if;
        -- With another definition nobody writes what he had read before: no change would follow that sets it right.
        update freshet.sink s
        set revision = s.revision + 1, definition = s.definition + case when v_reshaped or v_rewarm then 1 else 0 end
        where s.id = v_sink.id;
        -- Of what cannot be captured nothing is read. It is of another kind again when it can.
        continue when unfit;
        if v_rewarm then
            perform freshet.request_rewarm(v_sink.id, missed or large or gone or v_sink.recalled or v_sink.shifted);
        end if;
        if missed or gone or v_sink.recalled or v_sink.shifted or v_reshaped and v_retyped then
            perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
        end if;
    end loop;
end
$$;

revoke all on function freshet.mend_sinks(integer, jsonb, jsonb, boolean, boolean, boolean, boolean, boolean) from public;

-- What freshet.mend does, unless something is locked.
create or replace function freshet.mend_source(source integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source     freshet.source;
    v_was        jsonb;
    v_now        jsonb;      -- as it was found
    v_next       jsonb;      -- as it is once the keeper is done
    v_quiet      constant text[] := '{versions,trifles,stored,files,types,calls}';   -- change often, and mostly for nothing
    v_gaps       tid[];      -- those that this looks after
    v_lapsed     boolean;    -- all gaps are of a change table that was full
    v_noted      boolean;    -- a partition was come upon that is gone
    v_lent       boolean;    -- a column was something else in between
    v_rewritten  boolean;    -- columns were given values by a statement that fires no trigger
    v_reworded   boolean;    -- values of an enum, or attributes of a type, were renamed
    v_recalled   boolean;    -- a function of a sink's was replaced
    v_why        text[] := '{}';
    v_task       text;       -- for the keeper
    v_missed     boolean := false;   -- changes may have been missed: look at everything
    v_gone       boolean := false;   -- rows may be gone without a trigger
    v_large      boolean := false;   -- a new partition has too many rows to be looked at here
    v_leaf       text;
    v_error      text;
begin
    -- The second is freshet.lock_definitions: whoever creates or drops a sink comes first.
    if not pg_catalog.pg_try_advisory_xact_lock(1181905014, source)
        or not pg_catalog.pg_try_advisory_xact_lock(1181905013)
    then
        perform freshet.note_barred(source);
        return null;
    end if;
    select * into v_source from freshet.source s where s.id = mend_source.source and s.relid is not null for update;
    if not found or not freshet.needs_mending(source) then
        return null;
    end if;
    -- Before the table is: nobody who has a sink makes the table's writers wait.
    perform from freshet.sink s where s.source_id = v_source.id order by s.id for update;
    v_was := coalesce(v_source.fingerprint, '{}');
    v_now := freshet.fingerprint(source);
    if v_source.fingerprint is null then
        update freshet.source s set fingerprint = v_now, mend_error = null where s.id = v_source.id;
        return null;
    end if;
    select pg_catalog.array_agg(g.ctid), pg_catalog.bool_and(g.code = 'lapsed') into v_gaps, v_lapsed
    from freshet.capture_gap g where g.source_id = mend_source.source;
    v_noted := exists (
        select from freshet.settled_notes(mend_source.source) n
        where not (n.stays and v_now -> 'leaves' ? n.relid::text));

    if v_now -> 'relation' = 'null' and v_now -> 'named' = 'null' then
        -- Its rows are gone, and so have to be the entries: the lanes see to that.
        update freshet.sink s
        set broken = pg_catalog.format('the table %s.%s is gone', v_source.schema_name, v_source.table_name), survey_after = null,
            definition = s.definition + 1, revision = s.revision + 1
        where s.source_id = v_source.id and s.state <> 'dropping' and freshet.is_altered(v_source.id);
        update freshet.source s
        set fingerprint = v_now || pg_catalog.jsonb_build_object('known', coalesce(v_was -> 'known', v_was -> 'columns')),
            mend_error = null, mend_after = null, mend_tries = 0
        where s.id = v_source.id;
        delete from freshet.noted_partition n where n.source_id = v_source.id;
        delete from freshet.capture_gap g where g.source_id = v_source.id and g.ctid = any (v_gaps);
        return 'the table is gone';
    end if;

    -- Many things alter the catalog and no entry, such as VACUUM FULL, or one more value of an enum.
    v_rewritten := v_now -> 'files' is distinct from v_was -> 'files' and freshet.differs(v_was -> 'versions', v_now -> 'versions');
    v_reworded := freshet.differs(v_was -> 'types', v_now -> 'types');
    v_recalled := freshet.differs(v_was -> 'calls', v_now -> 'calls');
    -- There and back: a column is what it was, and was something else in between. It had another name or type, or its table
    -- was a partition or a child of another, whose triggers are not ours.
    v_lent := exists (
        select from pg_catalog.jsonb_each(v_was -> 'versions') w join pg_catalog.jsonb_each(v_now -> 'versions') n on n.key = w.key
        where n.value <> w.value and v_now -> 'columns' -> w.key = v_was -> 'columns' -> w.key and v_now -> 'trifles' -> w.key = v_was -> 'trifles' -> w.key
          -- Another type and back leaves what the type brings.
          and (not v_now -> 'stored' ? w.key or v_now -> 'stored' -> w.key = v_was -> 'stored' -> w.key));
    if v_gaps is null and not v_noted and not v_lent and not v_rewritten and not v_reworded and not v_recalled and v_source.mend_error is null
        and v_was - v_quiet = v_now - v_quiet
    then
        update freshet.source s set fingerprint = v_was || v_now where s.id = v_source.id;
        delete from freshet.noted_partition n using freshet.settled_notes(v_source.id) t
        where n.source_id = v_source.id and n.relid = t.relid and n.attached = t.attached and t.stays and v_now -> 'leaves' ? n.relid::text;
        return freshet.survey_broken(v_source.id);
    end if;

    begin
        if v_now ->> 'named' <> v_source.relid::bigint::text then
            v_why := v_why || 'another table has its name'::text;
            perform freshet.rebase(source, (v_now ->> 'named')::oid, coalesce(v_was -> 'known', v_was -> 'columns'));
            v_task := 'rebuild';
            v_missed := true;
        elsif v_now -> 'named' = 'null' then
            v_why := v_why || 'the table was renamed'::text;
            update freshet.source s
            set schema_name = n.nspname, table_name = c.relname
            from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where s.id = v_source.id and c.oid = s.relid;
            v_now := v_now || pg_catalog.jsonb_build_object('named', v_source.relid::bigint);
        end if;
        if v_gaps is not null then
            v_why := v_why || pg_catalog.format('%s changes were not captured (%s)', pg_catalog.cardinality(v_gaps), (
                -- Of data errors the message can have values of the row in it, and this is for the log.
                select case when g.code ~ '^(22|23|P0)' then 'SQLSTATE ' || g.code else g.message end
                from freshet.capture_gap g where g.source_id = mend_source.source order by g.at desc limit 1));
            v_task := coalesce(v_task, case when v_lapsed then 'capture' else 'renew' end);
            v_missed := true;
        end if;
        if v_now -> 'triggers' is distinct from v_was -> 'triggers' or v_now -> 'function' is distinct from v_was -> 'function'
            or v_now -> 'changes' is distinct from v_was -> 'changes'
        then
            v_why := v_why || 'triggers or change tables are not as they were'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_was ? 'unrecorded' and v_now -> 'unrecorded' <> v_was -> 'unrecorded' then
            v_why := v_why || 'changes were not captured, of which nothing could be recorded'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_now -> 'form' is distinct from v_was -> 'form' then
            v_why := v_why || 'capture is of another version'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_was ? 'owner' and v_now -> 'owner' is distinct from v_was -> 'owner' then
            v_why := v_why || 'the owner, or what he may do, is not as it was'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if freshet.differs(v_was -> 'leaves', v_now -> 'leaves') then
            v_why := v_why || 'a partition was truncated, or its triggers were changed'::text;
            v_task := coalesce(v_task, 'capture');
            v_missed := true;
        end if;
        if v_rewritten and exists (
            -- Where its type is another as well, that is seen to below, for the sinks concerned.
            select from pg_catalog.jsonb_each(v_was -> 'versions') w join pg_catalog.jsonb_each(v_now -> 'versions') n on n.key = w.key
            where n.value <> w.value and v_now -> 'columns' -> w.key = v_was -> 'columns' -> w.key)
        then
            v_why := v_why || 'a column was given other values'::text;
            v_missed := true;
        elsif v_lent then
            v_why := v_why || 'a column, or the table, was something else in between'::text;
            v_missed := true;
        end if;
        if v_was ? 'unfit' and v_now -> 'unfit' <> v_was -> 'unfit' then
            v_why := v_why || 'the table is of another kind'::text;
            v_missed := true;
        end if;
        if v_reworded then
            v_why := v_why || 'values of a type read otherwise'::text;
            v_missed := true;
        end if;
        if v_task is null and exists (
            select from pg_catalog.unnest(v_source.key_attnums) as u (attnum)
            where v_now -> 'columns' -> u.attnum::text is distinct from v_was -> 'columns' -> u.attnum::text)
        then
            v_why := v_why || 'a key column was changed'::text;
            v_task := 'capture';
            v_missed := true;
        end if;
        if v_task is not null and v_task <> 'rebuild' then
            -- What is gone is captured no more. Its sinks are stopped below, the others go on.
            update freshet.source s
            set key_attnums = coalesce((
                select pg_catalog.array_agg(u.attnum order by u.attnum) from pg_catalog.unnest(s.key_attnums) as u (attnum)
                where v_now -> 'columns' ? u.attnum::text), '{}')
            where s.id = v_source.id and exists (
                select from pg_catalog.unnest(s.key_attnums) as u (attnum) where not v_now -> 'columns' ? u.attnum::text);
        end if;
        if v_task is null and (v_noted or exists (
            select from pg_catalog.jsonb_object_keys(v_now -> 'leaves') n
            full join pg_catalog.jsonb_object_keys(v_was -> 'leaves') w on w = n
            where n is null or w is null))
        then
            v_task := 'leaves';
        end if;

        if v_task is not null then
            execute pg_catalog.format('select freshet.%I($1, null)', 'keep_' || source) using v_task;
        end if;
    exception when lock_not_available then
        raise;
    when others then
        v_error := coalesce(freshet.owner_advice(source), sqlerrm);
    end;
    if v_error is not null then
        -- What was missed stays on record; it is tried again. An owner may be given back what
        -- he had, and that looks as if nothing had happened.
        update freshet.source s
        set fingerprint = case when v_was ? 'owner' and v_now -> 'owner' is distinct from v_was -> 'owner'
                then s.fingerprint || '{"owner": null}' else s.fingerprint end,
            mend_tries = s.mend_tries + 1, mend_error = v_error,
            mend_after = pg_catalog.clock_timestamp() + least(300, power(2, least(s.mend_tries, 10))) * interval '1 second'
        where s.id = v_source.id;
        return 'could not be mended: ' || v_error;
    end if;

    -- As it is from now on. Under the keeper's lock nothing of this changes any more; but
    -- while it waited for that lock, whoever held it may have done anything. Without a keeper
    -- nothing is locked, and what was found is all there is to go by.
    v_next := v_now;
    if v_task is not null then
        v_next := freshet.fingerprint(source) || pg_catalog.jsonb_build_object('named', v_now -> 'named');
        if v_task <> 'rebuild' then
            -- Seen to by the next look.
            v_next := v_next || pg_catalog.jsonb_build_object(
                'relation', v_now -> 'relation', 'unique', v_now -> 'unique', 'columns', v_now -> 'columns',
                'versions', v_now -> 'versions', 'trifles', v_now -> 'trifles', 'stored', v_now -> 'stored', 'files', v_now -> 'files', 'types', v_now -> 'types',
                'calls', v_now -> 'calls', 'unfit', v_now -> 'unfit');
        end if;
        v_missed := v_missed
            or v_next -> 'triggers' is distinct from v_was -> 'triggers'
            or v_next -> 'function' is distinct from v_was -> 'function'
            or v_next -> 'changes' is distinct from v_was -> 'changes'
            or v_was ? 'unrecorded' and v_next -> 'unrecorded' <> v_was -> 'unrecorded'
            or freshet.differs(v_was -> 'leaves', v_next -> 'leaves')
            or exists (select from freshet.capture_gap g where g.source_id = mend_source.source);
        select pg_catalog.array_agg(g.ctid) into v_gaps from freshet.capture_gap g where g.source_id = mend_source.source;
    end if;
    for v_leaf in
        select k from pg_catalog.jsonb_object_keys(v_next -> 'leaves') k
        where not coalesce(v_was -> 'leaves', '{}') ? k and v_was <> '{}'
    loop
        v_why := v_why || pg_catalog.format('%s is a new partition', v_leaf::oid::pg_catalog.regclass);
        if not v_missed then
            v_large := not freshet.touch_partition(source, v_leaf::oid) or v_large;
            -- Truncated or rewritten before it was seen: rows may be gone again.
            v_gone := coalesce(pg_catalog.pg_relation_filenode(v_leaf::oid) <> v_leaf::oid, false) or v_gone;
        end if;
    end loop;
    if exists (select from pg_catalog.jsonb_object_keys(v_was -> 'leaves') k where not v_next -> 'leaves' ? k) then
        v_why := v_why || 'a partition was detached or dropped'::text;
        v_gone := true;
    end if;
    -- With the table locked none comes back before the note is gone.
    with taken as (
        delete from freshet.noted_partition n using freshet.settled_notes(v_source.id) t
        where n.source_id = v_source.id and n.relid = t.relid and n.attached = t.attached
          and (v_task is not null or t.stays and v_next -> 'leaves' ? n.relid::text)
        returning t.stays and v_next -> 'leaves' ? n.relid::text as known
    )
    select coalesce(not pg_catalog.bool_and(t.known), false) into v_noted from taken t;
    if v_noted then
        v_why := v_why || 'a partition came and went'::text;
        v_gone := true;
    end if;
    if v_gone then
        -- What backfills have read of it and not written they read anew, and what they are just
        -- writing is looked at once more: no change tells that its rows are gone.
        update freshet.backfill_range r
        set requested = pg_catalog.pg_current_snapshot()
        from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id
        where b.id = r.run_id and s.source_id = v_source.id and r.finished_at is null;
    end if;

    v_why := v_why || freshet.mend_sinks(v_source.id, v_was, v_now, v_source.relid <> (select o.relid from freshet.source o where o.id = v_source.id),
        v_missed, v_large, v_gone, v_next -> 'unfit' = 'true');

    -- What goes wrong again and again is not warmed for again and again without a pause.
    update freshet.source s
    set fingerprint = v_next, mend_error = null, mended_at = pg_catalog.clock_timestamp(),
        mend_tries = case when v_missed and s.mended_at > pg_catalog.clock_timestamp() - interval '10 minutes' then s.mend_tries + 1 else 0 end,
        mend_after = case when v_missed and s.mended_at > pg_catalog.clock_timestamp() - interval '10 minutes'
            then pg_catalog.clock_timestamp() + least(300, power(2, least(s.mend_tries, 10))) * interval '1 second' end
    where s.id = v_source.id;
    delete from freshet.capture_gap g where g.source_id = v_source.id and g.ctid = any (v_gaps);
    return nullif(pg_catalog.array_to_string(v_why, '; '), '');
end
$$;

revoke all on function freshet.mend_source(integer) from public;

-- The parts of a key with the columns as they are called now, and their types. Columns are
-- kept by number, so that a rename is followed; one that is gone stays as it was.
create or replace function freshet.named_key(source oid, parts jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.jsonb_agg(
        p.part || coalesce((
            select pg_catalog.jsonb_build_object('column', a.attname, 'type', freshet.base_type(a.atttypid)::bigint)
            from pg_catalog.pg_attribute a
            where a.attrelid = source and a.attnum = (p.part ->> 'attnum')::smallint and not a.attisdropped), '{}')
        order by p.n)
    from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
$$;

revoke all on function freshet.named_key(oid, jsonb) from public;

-- Whether capture of a source is to be mended now: something is missing or altered, or is said
-- to be, or a sink has been broken for a while, and it is not the pause after an attempt.
create or replace function freshet.needs_mending(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select (s.mend_after is null or s.mend_after < pg_catalog.clock_timestamp())
       and (exists (select from freshet.capture_gap g where g.source_id = s.id)
            or exists (select from freshet.noted_partition n where n.source_id = s.id) and exists (select from freshet.settled_notes(s.id))
            or s.mend_error is not null
            or exists (select from freshet.sink k where k.source_id = s.id and k.broken is not null and k.state <> 'dropping'
                                                    and k.survey_after < pg_catalog.clock_timestamp())
            or freshet.is_altered(s.id))
    from freshet.source s
    where s.id = needs_mending.source);
end
$$;

revoke all on function freshet.needs_mending(integer) from public;

-- Whether there is anything for freshet.rotate to do: change tables with something in them, or
-- lanes that may have to lapse. It is asked for all sources in one statement.
create or replace function freshet.needs_rotation(source integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from freshet.segment g
        where g.source_id = needs_rotation.source
          and pg_catalog.pg_relation_size(pg_catalog.to_regclass('freshet.changes_' || source || '_' || g.number)) > 0)
    or exists (
        select from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where s.source_id = needs_rotation.source and l.kind = 'sync' and not l.lapsed
          and (s.max_pending is not null or coalesce(l.as_of, s.created_at) < pg_catalog.clock_timestamp() - s.max_lag));
end
$$;

revoke all on function freshet.needs_rotation(integer) from public;

-- Whether only row-level triggers see everything that is written to a table.
create or replace function freshet.needs_row_triggers(source oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select c.relkind = 'p' or exists (select from pg_catalog.pg_subscription_rel r where r.srrelid = c.oid)
    from pg_catalog.pg_class c
    where c.oid = needs_row_triggers.source
$$;

revoke all on function freshet.needs_row_triggers(oid) from public;

-- Between two chunks of a backfill range, in one transaction: the chunk that has
-- been written is validated, and the intent of the next one becomes durable before
-- a byte of it is. Without a snapshot it only validates. What has landed, and up to which
-- tuple, is as in validate_intent; it had `rows_read` rows. The next one ends with the tuple
-- `upper` or before; null is the end of the range. False if the lease is no longer held
-- under `epoch`.
--
-- `steps` is how many there have been as far as the worker knows. When its connection was
-- lost in a step it cannot tell whether that one is still to come: of the two only
-- one is taken, and the other fails.
--
-- `definition` is the sink's by which the next chunk is read.
create or replace function freshet.next_chunk(
    lease      bigint,
    epoch      bigint,
    definition integer,
    steps      bigint,
    landed     text,
    done       text[],
    rows_read  bigint,
    upper      text[],
    snapshot   pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Whoever holds the range for long must not hold up the worker's heartbeat by the lease.
set lock_timeout = '1s'
as $$
declare
    v_range    freshet.backfill_range;
    v_changes  text;
begin
    -- A crash that forgot the intent would leave nobody to validate what was written under it.
    if snapshot is not null then
        perform freshet.commit_to_disk();
    end if;
    -- Whoever mends capture has the change table before the sink.
    select 'freshet.changes_' || s.source_id into v_changes
    from freshet.lease l join freshet.sink s on s.id = l.sink_id where l.id = next_chunk.lease;
    if pg_catalog.to_regclass(v_changes) is not null then
        execute pg_catalog.format('lock table only %s in row exclusive mode', v_changes);
    end if;
    -- The sink comes before leases for everybody; what is asked for below refers to it.
    perform from freshet.lease l join freshet.sink s on s.id = l.sink_id where l.id = next_chunk.lease for key share of s;
    perform from freshet.lease l
    where l.id = next_chunk.lease and l.epoch = next_chunk.epoch
    for update;
    if not found then
        return false;
    end if;
    -- Nobody else takes a step while the lease is locked.
    if not exists (select from freshet.backfill_range r where r.lease_id = next_chunk.lease and r.steps = next_chunk.steps) then
        raise exception 'this step was taken already' using errcode = 'serialization_failure';
    end if;
    perform freshet.validate_intent(lease, landed, done, rows_read);
    -- Whoever joins the backfill meanwhile waits, and then sees that this range has begun.
    select * into strict v_range from freshet.backfill_range r where r.lease_id = next_chunk.lease for update;
    if snapshot is not null and v_range.superseded then
        raise exception 'another range does this one over again' using errcode = 'serialization_failure';
    end if;
    -- Read before the backfill was asked for, or joined.
    if snapshot is not null and not freshet.snapshot_covers(snapshot, v_range.requested) then
        raise exception 'the backfill was asked for again after this chunk was read'
            using errcode = 'serialization_failure';
    end if;
    -- Nor by a definition of before then. Whoever raises it and asks again has the range locked
    -- until it is there to be seen.
    if snapshot is not null and not exists (
        select from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where l.id = next_chunk.lease and s.definition = next_chunk.definition)
    then
        raise exception 'the sink was redefined after this chunk was read' using errcode = 'serialization_failure';
    end if;

    update freshet.backfill_range r
    set steps = r.steps + 1,
        intent_upper = next_chunk.upper,
        intent_snapshot = next_chunk.snapshot,
        intent_incarnation = freshet.incarnation()
    where r.lease_id = next_chunk.lease;
    return true;
end
$$;

revoke all on function freshet.next_chunk(bigint, bigint, integer, bigint, text, text[], bigint, text[], pg_snapshot) from public;

-- Takes note of who keeps a source from being mended. That is no fault, for whoever creates or drops a
-- sink, rotates or mends is soon done; but it is an error once the same transaction has done so for
-- three seconds. It may be one that created a sink and was left open, and then nothing is mended.
create or replace function freshet.note_barred(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_by   text;
    v_pid  integer;
begin
    select l.virtualtransaction, l.pid into v_by, v_pid
    from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
      and (l.classid = 1181905014 and l.objid = source::oid and l.objsubid = 2 or l.classid = 0 and l.objid = 1181905013 and l.objsubid = 1)
    order by l.classid = 0
    limit 1;
    if v_by is null then
        return;
    end if;
    if exists (
        select from freshet.source s
        where s.id = note_barred.source and s.barred_by = v_by and s.barred_since < pg_catalog.clock_timestamp() - interval '3 seconds')
    then
        raise exception 'a transaction that changes sinks, or looks after capture, does not end (%)', coalesce('process ' || v_pid, 'it is prepared')
            using errcode = 'lock_not_available';
    end if;
    update freshet.source s
    set barred_by = v_by, barred_since = pg_catalog.clock_timestamp()
    where s.id = (select l.id from freshet.source l where l.id = note_barred.source for no key update skip locked)
      and s.barred_by is distinct from v_by;
end
$$;

revoke all on function freshet.note_barred(integer) from public;

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

-- Who else has the keys of a lane, and what to do about it; null if nobody has.
create or replace function freshet.obstacle(sink freshet.sink, lease freshet.lease)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when lease.blocked > 0 then pg_catalog.format(
            '%s keys of the form %s are there already and not from this sink: remove them, or take them over with '
            'select freshet.alter_sink(%L, adopt => true)', lease.blocked, sink.key, sink.name)
        when lease.blocked_by is not null then pg_catalog.format(
            '%s writes keys of the form %s: drop that sink, or take its keys over with '
            'select freshet.alter_sink(%L, adopt => true)', lease.blocked_by, sink.key, sink.name)
        when lease.rival is not null then pg_catalog.format(
            'a copy of this database (%s) writes the same entries: end its workers, or give them another Redis', lease.rival)
    end
$$;

revoke all on function freshet.obstacle(freshet.sink, freshet.lease) from public;

-- The order columns of a sink as SQL terms: of its source's rows, or of the rows of its
-- change table.
create or replace function freshet.order_terms(sink integer, alias text, in_changes boolean)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.array_agg(
        case when o.attnum = any (s.folded_attnums) then pg_catalog.format('pg_catalog.lower(%s::pg_catalog.text)', c.term)
             -- A domain over an enum is compared as that.
             when c.over is not null and not in_changes then pg_catalog.format('%s::%s', c.term, freshet.type_name(c.over))
             else c.term end
        order by o.n)
    from freshet.sink s
    join freshet.source r on r.id = s.source_id
    cross join lateral pg_catalog.unnest(s.order_attnums) with ordinality as o (attnum, n)
    cross join lateral (
        select alias || '.' || case when in_changes then 'k' || o.attnum else pg_catalog.quote_ident(a.attname) end as term,
               (select b.oid from pg_catalog.pg_type d join pg_catalog.pg_type b on b.oid = freshet.base_type(d.oid)
                where d.oid = a.atttypid and d.typtype = 'd' and b.typtype = 'e') as over
        from (select) as nothing
        left join pg_catalog.pg_attribute a on a.attrelid = r.relid and a.attnum = o.attnum) c
    where s.id = order_terms.sink
$$;

revoke all on function freshet.order_terms(integer, text, boolean) from public;

-- What somebody has to run before the capture of a source can be looked after again: its
-- owner may not use Freshet any more, or its capture belongs to another. Null if it is
-- neither.
create or replace function freshet.owner_advice(source integer)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format('the owner of %s ', c.oid::pg_catalog.regclass)
        || pg_catalog.concat_ws(', and ',
               case when a.unable then 'may not use Freshet' end,
               case when a.former then pg_catalog.format('does not own its capture, which is still that of %I', pg_catalog.pg_get_userbyid(p.proowner)) end)
        || ': have a superuser run '
        || pg_catalog.concat_ws('; ',
               case when a.unable then pg_catalog.format('grant freshet_admin to %I', pg_catalog.pg_get_userbyid(c.relowner)) end,
               case when a.former then pg_catalog.format('select freshet.make_capture(%s)', s.id) end)
    from freshet.source s
    join pg_catalog.pg_class c on c.oid = s.relid
    left join pg_catalog.pg_proc p on p.oid = pg_catalog.to_regprocedure(pg_catalog.format('freshet.%I(text, integer)', 'keep_' || s.id))
    join pg_catalog.pg_namespace n on n.nspname = 'freshet'
    cross join lateral (
        -- As freshet.admit_owner has it, run by the keeper's owner.
        select not (pg_catalog.has_schema_privilege(c.relowner, n.oid, 'usage')
                    and pg_catalog.has_schema_privilege(c.relowner, n.oid, 'create')
                    and pg_catalog.has_function_privilege(c.relowner, 'freshet.record_gap(integer, text, text, text)', 'execute'))
                   and not pg_catalog.pg_has_role(p.proowner, n.nspowner, 'usage') as unable,
               not pg_catalog.pg_has_role(p.proowner, c.relowner, 'usage') as former
    ) a
    where s.id = owner_advice.source and (a.unable or a.former)
$$;

revoke all on function freshet.owner_advice(integer) from public;

-- Gives the range of this lease leave to read so many rows after a while, so that all ranges
-- of its backfill together keep to its rate: how long, and whether it has leave by then or
-- has to ask again. Leave is given a second ahead at most, for who has it may not come to
-- use it. Without a rate there is no row.
create or replace function freshet.pace_backfill(lease bigint, rows bigint, out pause interval, out granted boolean)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run;
begin
    select b.* into v_run
    from freshet.backfill_run b join freshet.backfill_range r on r.run_id = b.id
    where r.lease_id = pace_backfill.lease
    for update of b;
    if v_run.rate is null then
        return;
    end if;
    pause := greatest(v_run.paced_until - pg_catalog.clock_timestamp(), interval '0');
    granted := coalesce(pause, interval '0') <= interval '1 second';
    if granted then
        update freshet.backfill_run b
        set paced_until = greatest(b.paced_until, pg_catalog.clock_timestamp()) + pace_backfill.rows / b.rate::double precision * interval '1 second'
        where b.id = v_run.id;
    end if;
    pause := coalesce(pause, interval '0');
    return next;
end
$$;

revoke all on function freshet.pace_backfill(bigint, bigint) from public;

-- The part of a trigger function that writes what comes after the first seventeen rows of a
-- transition table: the tuples of many rows to each row of the change table, as lists, which
-- costs a third of a row for each. Of each key column are given its name in the change table,
-- what it is called in the source, its type in the change table, and how long its values are:
-- null if they have no one length, or may be null.
--
-- A row gets no larger than what Postgres keeps in one piece. Where all tuples are of one length,
-- one list of them is cut to pieces, for as many rows as there may be in memory at once. And with
-- `others`, the rows of which are the same ones in the same order, v_moved is true afterwards if
-- any tuple is another there; it stays null where there were too many to compare.
create or replace function freshet.pack_rows(
    segment   text,
    op        text,
    relation  text,
    names     text[],
    columns   text[],
    types     text[],
    lengths   integer[],
    others    text default null)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    c_bytes    constant integer := 1800;
    c_most     constant integer := 500000;
    v_columns  text;   -- freshet_new."id"::bigint as k1, …
    v_other    text;   -- the same of the others
    v_size     text;   -- of a tuple
    v_lists    text;   -- k1s, …
    v_make     text;   -- array_agg(r.k1) as k1s, …
    v_cut      text;   -- a.k1s[…], …
    v_pieces   integer;
    v_group    text;
    v_rest     text;
begin
    select pg_catalog.string_agg(pg_catalog.format('%s.%s::%s as %s', relation, c.source, c.type, c.name), ', '),
           pg_catalog.string_agg(pg_catalog.format('%s.%s::%s as %s', others, c.source, c.type, c.name), ', '),
           pg_catalog.string_agg(case when c.length is not null then c.length::text
               else pg_catalog.format('coalesce(pg_catalog.pg_column_size(%s.%s), 0) + 8', relation, c.source) end, ' + '),
           case when pg_catalog.count(c.length) = pg_catalog.count(*) then greatest(least(c_bytes / sum(c.length), 128), 1) end
    into v_columns, v_other, v_size, v_pieces
    from rows from (pg_catalog.unnest(names), pg_catalog.unnest(columns), pg_catalog.unnest(types), pg_catalog.unnest(lengths))
        as c (name, source, type, length);
    select pg_catalog.string_agg(n || 's', ', '),
           pg_catalog.string_agg(pg_catalog.format('pg_catalog.array_agg(r.%1$s) as %1$ss', n), ', '),
           pg_catalog.string_agg(pg_catalog.format('a.%1$ss[%2$s * p - %2$s + 1 : %2$s * p]', n, v_pieces), ', ')
    into v_lists, v_make, v_cut
    from pg_catalog.unnest(names) as n;
    v_group := case when v_pieces is null then pg_catalog.format('sum(%s) over (rows unbounded preceding) / %s', v_size, c_bytes)
        else pg_catalog.format('(pg_catalog.row_number() over () - 1) / %s', v_pieces) end;

    v_rest := pg_catalog.format($sql$
                insert into %1$s (op, tuples, %2$s)
                select %3$L, a.* from (
                    select count(*), %4$s from (select %5$s, %6$s as piece from %7$s offset %8$s) as r group by r.piece order by r.piece) as a;$sql$,
        segment, v_lists, op, v_make, v_columns, v_group, relation, case when v_pieces is null then 17 else 17 + c_most end);
    if v_pieces is null then
        return v_rest;
    end if;
    return pg_catalog.format($sql$
                with one as materialized (
                    select a.*, pg_catalog.cardinality(a.%13$ss) as n, %11$s as moved from (select %6$s from (select %7$s from %8$s offset 17 limit %9$s) as r) as a%12$s
                ), written as (
                    insert into %1$s (op, tuples, %2$s)
                    select %3$L, least(a.n - %4$s * (p - 1), %4$s), %5$s
                    from one as a cross join pg_catalog.generate_series(1, (a.n + %4$s - 1) / %4$s) as p
                )
                select a.n, a.moved into v_packed, v_moved from one as a;
                if v_packed >= %9$s then
                    v_moved := null;%10$s
                end if;$sql$,
        segment, v_lists, op, v_pieces, v_cut, v_make, v_columns, relation, c_most, v_rest,
        case when others is null then 'null::boolean' else pg_catalog.format('pg_catalog.record_image_ne(row(%s), row(%s))',
            (select pg_catalog.string_agg('a.' || n || 's', ', ') from pg_catalog.unnest(names) as n),
            (select pg_catalog.string_agg('b.' || n || 's', ', ') from pg_catalog.unnest(names) as n)) end,
        case when others is null then '' else pg_catalog.format(
            ' cross join (select %s from (select %s from %s offset 17 limit %s) as r) as b', v_make, v_other, others, c_most) end,
        names[1]);
end
$$;

revoke all on function freshet.pack_rows(text, text, text, text[], text[], text[], integer[], text) from public;

-- Splits a key template into its parts: {"text": …} for literal text, and
-- {"column": …, "modifiers": […]} for ${column|lower|url}. `$${` is a literal `${`;
-- braces without a dollar sign stay as they are, for Redis hash tags.
create or replace function freshet.parse_key(template text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $body$
declare
    v_rest       text := template;
    v_parts      jsonb := '[]';
    v_text       text := '';
    v_at         integer;
    v_close      integer;
    v_column     text;
    v_modifiers  text[];
begin
    loop
        v_at := pg_catalog.strpos(v_rest, '${');
        exit when v_at = 0;

        if v_at > 1 and pg_catalog.substr(v_rest, v_at - 1, 1) = '$' then
            v_text := v_text || pg_catalog.substr(v_rest, 1, v_at - 2) || '${';
            v_rest := pg_catalog.substr(v_rest, v_at + 2);
            continue;
        end if;

        v_text := v_text || pg_catalog.substr(v_rest, 1, v_at - 1);
        v_rest := pg_catalog.substr(v_rest, v_at + 2);
        v_close := pg_catalog.strpos(v_rest, '}');
        if v_close = 0 then
            raise exception 'key: the template "%" has a "${" without its "}"', template
                using errcode = 'invalid_parameter_value',
                      hint = 'Write ${column} for a column, or $${ for a literal ${.';
        end if;
        v_modifiers := pg_catalog.string_to_array(pg_catalog.substr(v_rest, 1, v_close - 1), '|');
        v_column := v_modifiers[1];
        v_modifiers := v_modifiers[2:];
        v_rest := pg_catalog.substr(v_rest, v_close + 1);
        if coalesce(v_column, '') = '' then
            raise exception 'key: the template "%" names no column between "${" and "}"', template
                using errcode = 'invalid_parameter_value';
        end if;
        if pg_catalog.array_to_string(v_modifiers, '|') <> all (array['', 'lower', 'url', 'lower|url']) then
            raise exception 'key: ${%} has the modifiers "%"', v_column, pg_catalog.array_to_string(v_modifiers, '|')
                using errcode = 'invalid_parameter_value',
                      hint = 'There are |lower and |url, and both in the order |lower|url.';
        end if;

        if v_text <> '' then
            v_parts := v_parts || pg_catalog.jsonb_build_object('text', v_text);
            v_text := '';
        end if;
        v_parts := v_parts || pg_catalog.jsonb_build_object('column', v_column, 'modifiers', v_modifiers);
    end loop;

    v_text := v_text || v_rest;
    if v_text <> '' then
        v_parts := v_parts || pg_catalog.jsonb_build_object('text', v_text);
    end if;
    return v_parts;
end
$body$;

revoke all on function freshet.parse_key(text) from public;

-- The partitions of a table, at every level, by what the catalog says. pg_partition_tree keeps
-- them locked until the transaction ends, and who has partitions locked before their parent
-- is in the way of whoever attaches, detaches or makes one.
create or replace function freshet.partitions_of(relation oid)
returns table (relid oid)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In PL/pgSQL, which keeps the plan: this is asked every second.
    return query
    with recursive down (relid) as (
        select c.oid from pg_catalog.pg_class c where c.oid = partitions_of.relation and c.relkind = 'p'
        union all
        select i.inhrelid from down d join pg_catalog.pg_inherits i on i.inhparent = d.relid where not i.inhdetachpending
    )
    select d.relid from down d where d.relid <> partitions_of.relation;
end
$$;

revoke all on function freshet.partitions_of(oid) from public;

-- Stops a backfill after the chunk that it is at, until it is resumed.
create or replace function freshet.pause_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run := freshet.find_backfill(id);
begin
    update freshet.backfill_run b
    set state = 'paused'
    where b.id = v_run.id;
    update freshet.sink s set revision = s.revision + 1 where s.id = v_run.sink_id;
end
$$;

comment on function freshet.pause_backfill(bigint) is 'Stops a backfill after its present chunk, until it is resumed.';
revoke all on function freshet.pause_backfill(bigint) from public;

-- Stops writing a sink's entries, within a second. Changes are kept until it is resumed.
create or replace function freshet.pause_sink(name text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(name);
begin
    perform freshet.check_owner(v_sink.id);
    update freshet.sink s
    set state = 'paused', failing = null, revision = s.revision + 1
    where s.id = v_sink.id and s.state in ('active', 'failing');
end
$$;

comment on function freshet.pause_sink(text)
is 'Stops writing a sink''s entries, within a second. Changes are kept until it is resumed.';
revoke all on function freshet.pause_sink(text) from public;

-- How many captured changes a lane has not passed, counted up to a limit; of many that share a
-- row of the change table, each.
create or replace function freshet.pending(source integer, passed pg_snapshot, up_to bigint default 10000)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_pending  bigint;
begin
    if pg_catalog.to_regclass('freshet.changes_' || source) is null then
        return 0;
    end if;
    execute pg_catalog.format(
        'select least(coalesce(sum(coalesce(bounded.tuples, 1)), 0), $2) '
        'from (select c.tuples from freshet.window_ranges($1, pg_catalog.pg_current_snapshot()) r, '
        'lateral (select c.tuples from freshet.%I c where c.xid between r.lo and r.hi limit $2) c limit $2) as bounded',
        'changes_' || source)
    into v_pending
    using passed, up_to;
    return v_pending;
end
$$;

revoke all on function freshet.pending(integer, pg_snapshot, bigint) from public;

-- A text as ${column|url} renders it: what RFC 3986 calls unreserved stays as it is.
create or replace function freshet.percent_encode(value text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when value is not null then coalesce(pg_catalog.string_agg(
        case when c.c ~ '^[A-Za-z0-9._~-]$' then c.c
            else pg_catalog.regexp_replace(pg_catalog.upper(pg_catalog.encode(pg_catalog.convert_to(c.c, 'UTF8'), 'hex')), '(..)', E'%\\1', 'g') end,
        '' order by c.n), '') end
    from pg_catalog.regexp_split_to_table(value, '') with ordinality as c (c, n)
$$;

revoke all on function freshet.percent_encode(text) from public;

-- Shows what the first rows of a source in key order would become, for a sink or for the
-- arguments of one that does not exist yet; with `keys`, what those entries would be. It
-- writes nothing. Of columns it shows what to_jsonb makes of them, which is equal and can be
-- spelled in another way; with freshet preview a worker's own code does it.
create or replace function freshet.preview(
    sink          text default null,
    source        regclass default null,
    key           text default null,
    columns       text[] default null,
    value         text default null,
    transform     text default null,
    filter        text default null,
    expires       interval default null,
    expires_at    text default null,
    accept_drift  boolean default false,
    keys          text[] default null,
    rows          integer default 10)
returns table (entry text, result text, content text, until timestamptz, error text)
language plpgsql
set search_path = pg_catalog, pg_temp
-- As workers render.
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
set lc_monetary = 'C'
set lc_numeric = 'C'
set lc_time = 'C'
set timezone_abbreviations = 'Default'
set xmlbinary = 'base64'
as $$
declare
    v_sink    freshet.sink;
    v_class   record;
    v_key     text;
    v_same    text;
    v_order   text;
    v_made    text;
    v_path    text := pg_catalog.current_setting('search_path');
    v_row     record;
    v_rows    text;
    v_one     text;
    v_found   bigint;
begin
    if rows is null or rows not between 1 and 1000 then
        raise exception 'rows: % is not between 1 and 1000', rows using errcode = 'invalid_parameter_value';
    end if;
    v_sink := freshet.define(sink, source, key, columns, value, transform, filter, expires, expires_at, accept_drift);
    if v_sink.transform is not null then
        raise exception 'transform: workers make these entries, not Postgres; the command freshet preview shows them'
            using errcode = 'feature_not_supported';
    end if;
    if source is null then
        select o.relid into source from freshet.source o where o.id = v_sink.source_id;
    end if;
    select n.nspname as schema, c.relname as name into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = preview.source;
    if not found then
        raise exception 'sink: the source of "%" is gone', sink using errcode = 'object_not_in_prerequisite_state';
    end if;

    select pg_catalog.string_agg(
        case when p.part ? 'column' then
            pg_catalog.format(case when p.part -> 'modifiers' ? 'url' then 'freshet.percent_encode(%s)' else '%s' end,
                pg_catalog.format(case when p.part -> 'modifiers' ? 'lower' then 'pg_catalog.lower(%I.%I::text)' else '%I.%I::text' end, v_class.name, a.attname))
        else pg_catalog.quote_literal(p.part ->> 'text') end, ' || ' order by p.n)
    into v_key
    from pg_catalog.jsonb_array_elements(v_sink.key_parts) with ordinality as p (part, n)
    left join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = (p.part ->> 'attnum')::smallint;
    select pg_catalog.string_agg(
        case when o.attnum = any (v_sink.folded_attnums) then pg_catalog.format('pg_catalog.lower(%I.%I)', v_class.name, a.attname)
            else pg_catalog.format('%I.%I', v_class.name, a.attname) end, ', ' order by o.n)
    into v_order
    from pg_catalog.unnest(v_sink.order_attnums) with ordinality as o (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = o.attnum;

    -- The rows, one for each entry.
    v_rows := pg_catalog.format(
        'select %1$I.tableoid as of, %1$I.ctid as at, %3$s as key from %2$I.%1$I as %1$I where %4$s is not null',
        v_class.name, v_class.schema, v_key, v_key);
    if keys is not null then
        v_rows := v_rows || pg_catalog.format(' and %s = any (%L::text[])', v_key, keys);
    end if;
    if v_sink.grouped then
        v_rows := pg_catalog.format('select distinct on (%s) %s', v_order || ', ' || v_key, pg_catalog.substr(v_rows, 8))
            || pg_catalog.format(' order by %s, %s', v_order, v_key);
    else
        v_rows := v_rows || pg_catalog.format(' order by %s', v_order);
    end if;
    v_rows := v_rows || pg_catalog.format(' limit %s', rows);

    -- What one makes. $1 and $2 say which row it is; all those of its group have its key.
    select pg_catalog.string_agg(pg_catalog.format(
        '%1$s = (select %1$s from %2$I.%3$I as %3$I where %3$I.tableoid = $1 and %3$I.ctid = $2)',
        case when u.attnum = any (v_sink.folded_attnums) then pg_catalog.format('pg_catalog.lower(%I.%I)', v_class.name, a.attname)
            else pg_catalog.format('%I.%I', v_class.name, a.attname) end, v_class.schema, v_class.name), ' and ' order by u.n)
        || pg_catalog.format(' and %1$s = $3', v_key)
    into v_same
    from pg_catalog.unnest(v_sink.key_attnums) with ordinality as u (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = preview.source and a.attnum = u.attnum;
    if not v_sink.grouped then
        v_same := pg_catalog.format('%1$I.tableoid = $1 and %1$I.ctid = $2', v_class.name);
    end if;
    if v_sink.value is not null then
        v_made := E'((\n' || v_sink.value || E'\n))::text';
    else
        select pg_catalog.format('(select pg_catalog.to_jsonb(freshet_c)::text from (select %s) as freshet_c)',
            pg_catalog.string_agg(pg_catalog.format('%I.%I', v_class.name, a.attname), ', ' order by u.n, a.attnum))
        into v_made
        from pg_catalog.pg_attribute a
        left join pg_catalog.unnest(v_sink.column_attnums) with ordinality as u (attnum, n) on u.attnum = a.attnum
        where a.attrelid = preview.source and a.attnum > 0 and not a.attisdropped and (v_sink.column_attnums is null or u.n is not null);
    end if;
    v_one := pg_catalog.format(E'select %s, %s from %I.%I as %I where %s and ((\n%s\n)) is true%s',
        v_made, coalesce(E'((\n' || v_sink.expires_at || E'\n))::pg_catalog.timestamptz', 'null::pg_catalog.timestamptz'),
        v_class.schema, v_class.name, v_class.name, v_same, coalesce(v_sink.filter, 'true'),
        case when v_sink.grouped then ' having count(*) > 0' else '' end);

    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.schema), true);
    for v_row in execute v_rows loop
        entry := v_row.key;
        result := 'filtered';
        content := null;
        until := null;
        error := null;
        begin
            execute v_one into content, until using v_row.of, v_row.at, v_row.key;
            get diagnostics v_found = row_count;
            if content is null then
                -- No row came, or its value is null.
                result := case when v_found > 0 then 'null' else 'filtered' end;
                until := null;
            elsif until <= pg_catalog.statement_timestamp() then
                result := 'expired';
                content := null;
                until := null;
            else
                result := 'entry';
                if until is null and v_sink.expires is not null then
                    until := pg_catalog.statement_timestamp() + v_sink.expires;
                elsif not pg_catalog.isfinite(until) then
                    until := null;
                end if;
            end if;
        exception
            -- What workers take for an entry's own failure.
            when data_exception or integrity_constraint_violation or cardinality_violation or raise_exception
                or no_data_found or too_many_rows then
                result := 'error';
                content := null;
                until := null;
                error := sqlerrm;
        end;
        return next;
    end loop;
    perform pg_catalog.set_config('search_path', v_path, true);
end
$$;

comment on function freshet.preview(text, regclass, text, text[], text, text, text, interval, text, boolean, text[], integer)
is 'Shows what rows would become, for a sink or for the arguments of one that does not exist yet. Writes nothing.';
revoke all on function freshet.preview(text, regclass, text, text[], text, text, text, interval, text, boolean, text[], integer) from public;

-- Whether values of a type print names that others decide on: a regclass, or anything
-- made of one, changes its text when the table is renamed or the search path is
-- another, and no row has changed.
create or replace function freshet.prints_names(type oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive inside (oid) as (
        select prints_names.type
        union
        select part.oid
        from inside i
        join pg_catalog.pg_type t on t.oid = i.oid
        cross join lateral (
            select t.typbasetype
            union all
            select t.typelem
            union all
            select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
            union all
            select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        ) as part (oid)
    )
    select exists (
        select from inside i join pg_catalog.pg_type t on t.oid = i.oid
        where t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace and t.typname ~ '^reg' or t.oid = 'aclitem'::pg_catalog.regtype)
$$;

revoke all on function freshet.prints_names(oid) from public;

-- What Postgres makes of an expression over the row of a source: it is made a view for a
-- moment. `what` is as in check_expression.
--
--   tree     the expression, parsed
--   behind   the same of what it calls upon by name: the views that it reads, on every level,
--            and default arguments where a call leaves some out
--   schemas  those in which it names something
--   types    those that users have made
drop function if exists freshet.probe(oid, text, text, text);
create function freshet.probe(
    source       oid,
    argument     text,
    expression   text,
    what         text,
    out tree     text,
    out behind   text,
    out schemas  oid[],
    out types    oid[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_class  record;
    v_path   text := pg_catalog.current_setting('search_path');
    v_view   oid;
    v_rule   oid;
begin
    if not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'temporary') then
        raise exception '%: to look into it, this role needs the right to make temporary objects in this database', argument
            using errcode = 'insufficient_privilege',
                  hint = pg_catalog.format('Run: grant temporary on database %I to %I;', pg_catalog.current_database(), current_user);
    end if;
    select n.nspname, c.relname into v_class
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = source;
    perform pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, public', v_class.nspname), true);
    execute pg_catalog.format(E'create temporary view freshet_probe as select true as probe from %1$I.%2$I as %2$I %4$s ((\n%3$s\n)) is null',
        v_class.nspname, v_class.relname, expression, case what when 'group' then 'group by () having' else 'where' end);
    perform pg_catalog.set_config('search_path', v_path, true);
    v_view := 'pg_temp.freshet_probe'::pg_catalog.regclass;
    -- Before version 16 a view's tree names the view itself.
    select r.oid, pg_catalog.replace(r.ev_action::text, ':relid ' || v_view || ' ', ':relid 0 ')
    into v_rule, tree
    from pg_catalog.pg_rewrite r where r.ev_class = v_view;

    -- Of what is in pg_catalog there is nothing: everybody may use that.
    select coalesce(pg_catalog.array_agg(distinct coalesce(p.pronamespace, t.typnamespace, o.oprnamespace)), '{}') into schemas
    from pg_catalog.pg_depend d
    left join pg_catalog.pg_proc p on d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = d.refobjid
    left join pg_catalog.pg_type t on d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass and t.oid = d.refobjid
    left join pg_catalog.pg_operator o on d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass and o.oid = d.refobjid
    where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = v_rule
      and coalesce(p.pronamespace, t.typnamespace, o.oprnamespace) is not null;
    select coalesce(pg_catalog.array_agg(distinct t), '{}') into types
    from (
        select d.refobjid as t from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = v_rule and d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
        union
        select p.prorettype from freshet.called(tree) as c (function) join pg_catalog.pg_proc p on p.oid = c.function
    ) d
    where t >= 16384;
    drop view pg_temp.freshet_probe;

    with recursive part (of, tree) as (
        select 0::oid, probe.tree collate pg_catalog."C"
        union
        select x.of, x.tree
        from part b cross join lateral (
            select p.oid as of, p.proargdefaults::text collate pg_catalog."C" as tree
            from freshet.called(b.tree) as c (function) join pg_catalog.pg_proc p on p.oid = c.function
            where p.pronargdefaults > 0 and freshet.leaves_out(b.tree, p.oid)
            union all
            select r.ev_class, r.ev_action::text collate pg_catalog."C"
            from pg_catalog.regexp_matches(b.tree, ':relid ([0-9]+)', 'g') as m
            join pg_catalog.pg_class v on v.oid = m[1]::oid and v.relkind = 'v'
            join pg_catalog.pg_rewrite r on r.ev_class = v.oid and r.rulename = '_RETURN'
        ) x
    )
    select coalesce(pg_catalog.string_agg(b.tree, ' '), '') into behind from part b where b.of <> 0;
end
$$;

revoke all on function freshet.probe(oid, text, text, text) from public;

-- The River queue of work for a target that needs a function of Go, null for none: a worker
-- has those of all that it can do. Ranges of backfills have queues of their own, from which a
-- worker takes as many as it has hands for, and the rest is there for others.
create or replace function freshet.queue_for(kind text, target text, function text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when kind = 'backfill' then 'backfill_' else 'target_' end
        -- River wants at most 64 characters, and single underscores between others.
        || case when function is not null then pg_catalog.md5(target || ' ' || function)
               when target ~ '__|_$' then pg_catalog.md5(target)
               else target end
$$;

revoke all on function freshet.queue_for(text, text, text) from public;

-- The River queue of what is offered to a worker.
create or replace function freshet.queue_of(worker text)
returns text
language sql
immutable strict
set search_path = pg_catalog, pg_temp
as $$
    select 'worker_' || pg_catalog.md5(worker)
$$;

revoke all on function freshet.queue_of(text) from public;

-- Makes another table the source: the one that has its name now. Columns are found again
-- by name, as `known` has them from before ({attnum: [name, …]}).
create or replace function freshet.rebase(source integer, relation oid, known jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_map      jsonb;   -- old attnum → new one
    v_missing  text;
begin
    select pg_catalog.jsonb_object_agg(k.key, a.attnum) into v_map
    from pg_catalog.jsonb_each(known) as k
    join pg_catalog.pg_attribute a
        on a.attrelid = relation and a.attname = k.value ->> 0 and a.attnum > 0 and not a.attisdropped;
    select pg_catalog.string_agg(coalesce(known -> u.attnum::text ->> 0, '?'), ', ') into v_missing
    from freshet.source s cross join lateral pg_catalog.unnest(s.key_attnums) as u (attnum)
    where s.id = rebase.source and not coalesce(v_map, '{}') ? u.attnum::text;
    if v_missing is not null then
        raise exception 'the table that is called % now has no column %', relation::pg_catalog.regclass, v_missing
            using errcode = 'undefined_column';
    end if;

    update freshet.source s
    set relid = relation,
        key_attnums = (select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by (v_map ->> u.attnum::text)::smallint)
                       from pg_catalog.unnest(s.key_attnums) as u (attnum))
    where s.id = rebase.source;
    update freshet.sink s
    set key_attnums = (select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by (v_map ->> u.attnum::text)::smallint)
                       from pg_catalog.unnest(s.key_attnums) as u (attnum)),
        key_parts = (select pg_catalog.jsonb_agg(
                         case when p.part ? 'attnum' then pg_catalog.jsonb_set(p.part, '{attnum}', v_map -> (p.part ->> 'attnum')) else p.part end
                         order by p.n)
                     from pg_catalog.jsonb_array_elements(s.key_parts) with ordinality as p (part, n)),
        column_attnums = case when s.column_attnums is not null then coalesce((select pg_catalog.array_agg((v_map ->> u.attnum::text)::smallint order by u.n)
                          from pg_catalog.unnest(s.column_attnums) with ordinality as u (attnum, n)
                          where v_map ? u.attnum::text), '{}') end
    where s.source_id = rebase.source and s.state <> 'dropping';
end
$$;

revoke all on function freshet.rebase(integer, oid, jsonb) from public;

-- Notes entries of a lease's sink and target that fail, before they are removed: keys, their
-- tuples as text[], the SQLSTATE and the message of each, and when the rows were read.
-- Returns how many entries fail now in all, null if the lease is no longer held under
-- `epoch`.
create or replace function freshet.record_failures(
    lease     bigint,
    epoch     bigint,
    read_at   timestamptz,
    keys      text[],
    tuples    text[],
    codes     text[],
    messages  text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  freshet.lease;
begin
    select * into v_lease from freshet.lease l
    where l.id = record_failures.lease and l.epoch = record_failures.epoch;
    if not found then
        return null;
    end if;

    -- In the order of the keys: a lane and a backfill may note the same ones.
    insert into freshet.failure as f (sink_id, target, key, tuple, code, message, read_at, next_try)
    select v_lease.sink_id, v_lease.target, v.key, v.tuple::text[], v.code, pg_catalog.left(v.message, 1000),
           record_failures.read_at, pg_catalog.clock_timestamp() + freshet.retry_pause(1)
    from rows from (
        pg_catalog.unnest(keys), pg_catalog.unnest(tuples), pg_catalog.unnest(codes), pg_catalog.unnest(messages)
    ) as v (key, tuple, code, message)
    order by v.key collate "C"
    on conflict on constraint failure_pkey do update
    set tuple = excluded.tuple,
        code = excluded.code,
        message = excluded.message,
        read_at = greatest(f.read_at, excluded.read_at),
        tried_at = pg_catalog.clock_timestamp(),
        attempts = f.attempts + 1,
        next_try = pg_catalog.clock_timestamp() + freshet.retry_pause(f.attempts + 1);

    return (select count(*) from freshet.failure f where f.sink_id = v_lease.sink_id and f.target = v_lease.target);
end
$$;

revoke all on function freshet.record_failures(bigint, bigint, timestamptz, text[], text[], text[], text[]) from public;

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

-- Gives a sink another number of shards, while it is written to. The definition is
-- raised, so that before anything is written by the new lanes every control key of the
-- old ones refuses whoever still works by it. Every new lane begins where the slowest of
-- the old ones is: what others had applied already is looked up once more.
create or replace function freshet.recut(sink integer, shards integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  record;
    v_lease   record;
begin
    update freshet.sink s
    set shards = recut.shards, definition = s.definition + 1, revision = s.revision + 1
    where s.id = recut.sink;

    -- In one order, like all who lock several.
    perform from freshet.lease l where l.sink_id = recut.sink and l.kind = 'sync' order by l.id for update;

    for v_target in
        select l.target, case when pg_catalog.bool_and(l.as_of is not null) then min(l.as_of) end as as_of,
               pg_catalog.bool_or(l.adopt) as adopt,
               (select (m.xmin || ':' || m.xmin || ':')::pg_catalog.pg_snapshot
                from (select min(pg_catalog.pg_snapshot_xmin(
                          pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot)::text::bigint) as xmin) m) as cursor
        from freshet.lease l
        where l.sink_id = recut.sink and l.kind = 'sync' and not l.closing
        group by l.target
    loop
        -- A lane that comes and goes: what the earlier one of its number may have
        -- written is this one's to answer for.
        update freshet.lease l
        set stamped = l.stamped or r.stamped, definition = least(l.definition, r.definition)
        from freshet.lease r
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards
          and r.sink_id = l.sink_id and r.kind = 'retired' and r.target = l.target and r.part = l.part;
        delete from freshet.lease r
        using freshet.lease l
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards
          and r.sink_id = l.sink_id and r.kind = 'retired' and r.target = l.target and r.part = l.part;
        -- Heartbeats under the old epoch no longer count.
        update freshet.lease l
        set kind = 'retired', epoch = l.epoch + 1, holder = null, finished_at = pg_catalog.clock_timestamp()
        where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target and l.part::integer >= recut.shards;

        insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
        select recut.sink, 'sync', v_target.target, p.shard::text, '', v_target.adopt
        from pg_catalog.generate_series(0, recut.shards - 1) as p (shard)
        on conflict do nothing;

        for v_lease in
            update freshet.lease l
            set cursor = v_target.cursor::text, passed = v_target.cursor, as_of = v_target.as_of, recut = true
            where l.sink_id = recut.sink and l.kind = 'sync' and l.target = v_target.target
            returning l.id, l.epoch
        loop
            perform freshet.release_lease(v_lease.id, v_lease.epoch);
        end loop;
    end loop;
end
$$;

revoke all on function freshet.recut(integer, integer) from public;

-- Has the ranges of a backfill, on one target or on all of them, write again what they had
-- written before this moment. Who calls it holds the sink locked.
create or replace function freshet.redo_ranges(run bigint, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_range  record;
begin
    -- Locked like by next_chunk: whether a range has begun does not change meanwhile. One that
    -- has not begins with what is there by now, one that has begins anew.
    for v_range in
        select r.*, l.target,
               r.position is not null or r.intent_snapshot is not null or r.finished_at is not null as begun
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = redo_ranges.run and not r.superseded
          and (redo_ranges.target is null or l.target = redo_ranges.target)
        order by r.lease_id
        for update of r
    loop
        update freshet.backfill_range r
        set requested = pg_catalog.pg_current_snapshot(), superseded = v_range.begun
        where r.lease_id = v_range.lease_id;
        if v_range.begun then
            perform freshet.add_range(redo_ranges.run, v_range.target, v_range.lower, v_range.upper);
            update freshet.backfill_run b set rows_estimated = b.rows_estimated + v_range.rows_done where b.id = redo_ranges.run;
        end if;
    end loop;
end
$$;

revoke all on function freshet.redo_ranges(bigint, text) from public;

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

-- Has the entries of one key tuple looked at again: its parts as text, in the order in
-- which the columns stand in the key.
create or replace function freshet.refresh(sink text, variadic key text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink := freshet.find_sink(sink);
    v_tuple  jsonb;
    v_given  integer := pg_catalog.cardinality(key);
begin
    perform freshet.check_owner(v_sink.id);
    if v_given <> pg_catalog.cardinality(v_sink.key_attnums) then
        raise exception 'key: % values for the % columns of the key "%"', v_given, pg_catalog.cardinality(v_sink.key_attnums), v_sink.key
            using errcode = 'invalid_parameter_value';
    end if;
    -- From the order in the template to the order of the tuple.
    select pg_catalog.jsonb_agg(key[t.n] order by t.attnum) into v_tuple
    from (
        select p.attnum, pg_catalog.row_number() over (order by p.first) as n
        from (
            select (e.part ->> 'attnum')::integer as attnum, min(e.n) as first
            from pg_catalog.jsonb_array_elements(v_sink.key_parts) with ordinality as e (part, n)
            where e.part ? 'attnum'
            group by 1
        ) p
    ) t;
    perform freshet.touch_keys(v_sink.id, pg_catalog.jsonb_build_array(v_tuple));
end
$$;

comment on function freshet.refresh(text, variadic text[])
is 'Looks at one entry again: refresh(''users'', ''7''), or the parts of a composite key in the order of the template.';
revoke all on function freshet.refresh(text, variadic text[]) from public;

create or replace function freshet.refresh(sink text, key bigint)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select freshet.refresh(sink, variadic array[key::text])
$$;

comment on function freshet.refresh(text, bigint) is 'Looks at one entry again: refresh(''users'', 7).';
revoke all on function freshet.refresh(text, bigint) from public;

-- Says which index is missing on the columns of a key that several rows share: without one,
-- each entry would take a walk through the whole table.
create or replace function freshet.refuse_group(source oid, key text, parts jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'key: several rows of % share a key, and no index begins with the columns of "%"',
        source::pg_catalog.regclass, key
        using errcode = 'invalid_parameter_value',
              hint = pg_catalog.format('Run: create index concurrently on %s (%s);', source::pg_catalog.regclass, (
                  select pg_catalog.string_agg(c.term, ', ' order by c.n)
                  from (
                      select case when p.part -> 'modifiers' ? 'lower' and not freshet.ignores_case(source, (p.part ->> 'attnum')::smallint)
                                 then pg_catalog.format('lower(%I)', p.part ->> 'column')
                                 else pg_catalog.quote_ident(p.part ->> 'column') end as term, min(p.n) as n
                      from pg_catalog.jsonb_array_elements(parts) with ordinality as p (part, n)
                      where p.part ? 'column'
                      group by 1) c));
end
$$;

revoke all on function freshet.refuse_group(oid, text, jsonb) from public;

-- Says why no index makes the tuples of a key unique: there is one on these columns and
-- it does not count, or there is none.
create or replace function freshet.refuse_key(source oid, key text, columns smallint[])
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_index  record;
begin
    select i.indexrelid::pg_catalog.regclass as name, c.conname, i.indisvalid as valid, c.contype
    into v_index
    from pg_catalog.pg_index i
    left join pg_catalog.pg_constraint c on c.conindid = i.indexrelid and c.contype in ('p', 'u')
    where i.indrelid = source and i.indisunique and i.indpred is null
      and not (i.indisvalid and i.indimmediate)
      and (i.indkey::smallint[])[0:i.indnkeyatts - 1] <@ columns
    order by i.indisvalid desc, i.indisprimary desc, i.indexrelid
    limit 1;
    if v_index.valid then
        raise exception 'key: the constraint % of % is deferrable, and several rows may share one key until it is checked',
            pg_catalog.quote_ident(v_index.conname), source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Make it anew without deferrable: alter table %s drop constraint %I, add %s.',
                      source::pg_catalog.regclass, v_index.conname,
                      (select pg_catalog.split_part(pg_catalog.pg_get_constraintdef(c.oid), ' DEFERRABLE', 1)
                       from pg_catalog.pg_constraint c where c.conrelid = source and c.conname = v_index.conname));
    elsif not v_index.valid then
        raise exception 'key: the unique index % is not valid, so that several rows of % could share one key',
            v_index.name, source::pg_catalog.regclass
            using errcode = 'invalid_parameter_value',
                  hint = pg_catalog.format('Remove the duplicates that stopped it, then run: reindex index %s.', v_index.name);
    end if;
    raise exception 'key: several rows of % could share one key, for no unique index covers the columns of "%"',
        source::pg_catalog.regclass, key
        using errcode = 'invalid_parameter_value',
              hint = 'Use all columns of the primary key, or create a unique index on the columns of the key'
                  ' (on lower(column) where the key says |lower). Or let rows share an entry: give value, an aggregate over them.';
end
$$;

revoke all on function freshet.refuse_key(oid, text, smallint[]) from public;

-- Refuses an argument whose feature this version does not have.
create or replace function freshet.refuse_later(argument text, given boolean)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if given then
        raise exception '%: this version of Freshet does not support the argument yet', argument
            using errcode = 'feature_not_supported',
                  hint = pg_catalog.format('Leave %s out.', argument);
    end if;
end
$$;

revoke all on function freshet.refuse_later(text, boolean) from public;

-- Refuses a read of a table that has the source's name and is another one: that is for
-- freshet.mend to follow, or over in a moment.
create or replace function freshet.refuse_name(name text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'source: another table has the name %', name using errcode = 'object_not_in_prerequisite_state';
end
$$;

revoke all on function freshet.refuse_name(text) from public;

-- Gives a lease to whoever comes next: raises the epoch, draws a nonce and
-- enqueues the successor's job. True if `epoch` still was the lease's epoch;
-- otherwise somebody else has it and nothing happens.
--
-- With `older_than`, only if its heartbeat has been silent for that long: this is
-- how a lease is taken from a worker that died. With `parked` nobody comes next: it is a
-- range's that nobody can work on for now, and gets no job before that has changed.
create or replace function freshet.release_lease(
    lease       bigint,
    epoch       bigint,
    older_than  interval default null,
    parked      boolean default false)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job bigint;
begin
    -- A crash must not forget an epoch that a control key has: there it would say that the
    -- server has gone back in time.
    perform freshet.commit_to_disk();
    update freshet.lease l
    set epoch = l.epoch + 1,
        nonce = pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 16),
        holder = null,
        -- An offer that was not taken is over.
        offered_to = case when l.holder is not null then l.offered_to end,
        heartbeat_at = pg_catalog.clock_timestamp()
    where l.id = release_lease.lease
      and l.epoch = release_lease.epoch
      and (older_than is null or l.heartbeat_at < pg_catalog.clock_timestamp() - older_than)
    returning l.job_id into v_job;
    if not found then
        return false;
    end if;

    -- A job that nobody fetched would only find that its epoch is over, and one that
    -- runs at a silent worker is never heard of again.
    delete from freshet.river_job j
    where j.id = v_job
      and (j.state in ('available', 'scheduled', 'retryable') or (j.state = 'running' and older_than is not null));

    if release_lease.parked then
        update freshet.lease l set job_id = null where l.id = release_lease.lease;
        update freshet.backfill_range r set parked = true where r.lease_id = release_lease.lease;
    else
        perform freshet.enqueue_lease(release_lease.lease);
    end if;
    return true;
end
$$;

revoke all on function freshet.release_lease(bigint, bigint, interval, boolean) from public;

-- Has the entries of a sink removed once more from a target that they were removed from, for
-- the target has the data of before then: somebody has seen there that they are the sink's.
-- True if there is something to do. Which sinks there are is not a worker's business, so this
-- has the rights of who installed it; all it makes is a sink that is being dropped.
create or replace function freshet.remove_again(sink integer, target text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    v_removed  freshet.removed;
    v_sink     freshet.sink;
    v_lease    bigint;
begin
    perform freshet.lock_definitions();
    select * into v_removed from freshet.removed r
    where r.sink_id = remove_again.sink and r.target = remove_again.target;
    if not found then
        return false;
    end if;
    v_sink := pg_catalog.jsonb_populate_record(null::freshet.sink, v_removed.sink);
    if exists (
        -- Whoever writes the same keys there now looks at each of them, when the target has gone back.
        select from freshet.sink s
        where s.state not in ('retiring', 'dropping') and remove_again.target = any (s.targets)
          and (s.id = v_sink.id or freshet.key_tokens(s.key_parts) = freshet.key_tokens(v_sink.key_parts)))
    or exists (select from freshet.sink s where s.id = v_sink.id and s.state in ('retiring', 'dropping'))
    or exists (select from freshet.lease l where l.sink_id = v_sink.id and l.kind = 'purge' and l.target = remove_again.target)
    then
        return false;
    end if;

    if not exists (select from freshet.sink s where s.id = v_sink.id) then
        insert into freshet.source overriding system value
        select (pg_catalog.jsonb_populate_record(null::freshet.source, v_removed.source || '{"relid": null}')).*
        on conflict (id) do nothing;
        v_sink.name := pg_catalog.split_part(v_sink.name, '~', 1) || '~' || v_sink.id;
        v_sink.state := 'dropping';
        v_sink.broken := null;
        v_sink.definition := v_sink.definition + 1;
        v_sink.targets := array[remove_again.target];
        insert into freshet.sink overriding system value select v_sink.*;
    end if;
    -- The lanes that it had, which nobody writes by any more.
    insert into freshet.lease (sink_id, kind, target, part, cursor, stamped, definition, finished_at)
    select v_sink.id, 'retired', remove_again.target, p.shard::text, '', true, 2147483647, pg_catalog.clock_timestamp()
    from pg_catalog.generate_series(0, v_sink.shards - 1) as p (shard)
    on conflict do nothing;
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (v_sink.id, 'purge', remove_again.target, 'purge', '')
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease);
    return true;
end
$$;

revoke all on function freshet.remove_again(integer, text) from public;

-- How values of types that users have made read: a label for each value of an enum, the
-- attributes of a composite type; those of the types within them too. A name that stands for
-- something else than before is a column whose values read otherwise, though no row was touched.
create or replace function freshet.renderings(types oid[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In PL/pgSQL, which keeps the plan: this is asked every second.
    return (with recursive within (type) as (
        select t from pg_catalog.unnest(types) as t
        union
        select x.type
        from within w
        join pg_catalog.pg_type t on t.oid = w.type
        cross join lateral (
            select t.typelem as type
            union all
            select t.typbasetype
            union all
            select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
            union all
            select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        ) x
        -- What comes with Postgres does not change.
        where x.type >= 16384
    )
    select pg_catalog.jsonb_object_agg(r.name, r.reads)
    from (
        -- xmin, for what is renamed and renamed back
        select 'value ' || e.oid as name, e.enumlabel || ' ' || e.xmin::text as reads
        from within w join pg_catalog.pg_enum e on e.enumtypid = w.type
        union all
        select 'row ' || w.type, pg_catalog.string_agg(a.attname || ' ' || a.atttypid || ' ' || a.atttypmod || ' ' || a.xmin::text, ', ' order by a.attnum)
        from within w
        join pg_catalog.pg_type t on t.oid = w.type
        join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        group by w.type
    ) r);
end
$$;

revoke all on function freshet.renderings(oid[]) from public;

-- Draws the value of this incarnation if there is none. Many workers may come at
-- once: the first one's value stays.
create or replace function freshet.renew_incarnation()
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into freshet.incarnation (value)
    values (pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 12))
    on conflict do nothing;
    return freshet.incarnation();
end
$$;

revoke all on function freshet.renew_incarnation() from public;

-- Makes this another server by its incarnation, for it has gone back in time: the same
-- positions and transaction ids come to mean something else than in the future that it has
-- lost. Once for everybody who finds that out in one incarnation.
create or replace function freshet.renew_past(incarnation text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.commit_to_disk();
    -- Asked again under its lock: another lane may have been first.
    perform from freshet.installation n for update;
    if freshet.incarnation() is distinct from renew_past.incarnation then
        return false;
    end if;
    update freshet.installation n
    set past = pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 8);
    return true;
end
$$;

revoke all on function freshet.renew_past(text) from public;

-- Makes a public view, or makes it anew. What others were granted on it and have made of it stays: it
-- is replaced in place where its columns are still the first ones, and where they are not, granted again.
create or replace function freshet.replace_view(view text, definition text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_view    text := pg_catalog.format('freshet.%I', view);
    v_right   record;
    v_rights  jsonb;
    v_detail  text;
begin
    begin
        execute pg_catalog.format('create or replace view %s as %s', v_view, definition);
        return;
    exception when invalid_table_definition then
        null; -- other columns
    end;
    select pg_catalog.jsonb_agg(r) into v_rights
    from (
        select a.privilege_type as privilege, a.is_grantable as passes, a.grantee::bigint, null::name as column
        from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) a
        where c.oid = v_view::pg_catalog.regclass and a.grantee <> c.relowner
        union all
        select a.privilege_type, a.is_grantable, a.grantee::bigint, t.attname
        from pg_catalog.pg_attribute t cross join lateral pg_catalog.aclexplode(t.attacl) a
        where t.attrelid = v_view::pg_catalog.regclass) r;
    begin
        execute pg_catalog.format('drop view %s', v_view);
    exception when dependent_objects_still_exist then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception 'the view % gets other columns, and something else is made of it', v_view
            using errcode = 'dependent_objects_still_exist', detail = v_detail, hint = 'Drop that, migrate, and make it again.';
    end;
    execute pg_catalog.format('create view %s as %s', v_view, definition);
    for v_right in
        select r.* from pg_catalog.jsonb_to_recordset(v_rights) as r (privilege text, passes boolean, grantee oid, "column" name)
        where r.column is null or exists (
            select from pg_catalog.pg_attribute t where t.attrelid = v_view::pg_catalog.regclass and t.attname = r.column)
    loop
        execute pg_catalog.format('grant %s%s on %s to %s%s', v_right.privilege, ' (' || pg_catalog.quote_ident(v_right.column) || ')', v_view,
            case v_right.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(v_right.grantee)) end,
            case when v_right.passes then ' with grant option' else '' end);
    end loop;
end
$$;

revoke all on function freshet.replace_view(text, text) from public;

-- Enqueues a backfill of a sink: a run, and its ranges for each target. There is one
-- backfill of everything at a time: a second one joins the first, which then writes again
-- what it had written before this moment.
create or replace function freshet.request_backfill(
    sink    integer,
    reason  text,
    filter  text default null,
    rate    integer default null,
    sweeps  boolean default false)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink    freshet.sink;
    v_relid   oid;
    v_run     bigint;
    v_rows    bigint;
    v_units   bigint;
    v_bounds  record;
    v_lower   text[];
    v_point   text[];
    v_pieces  integer;
    v_target  text;
begin
    -- One at a time: two lanes of a sink lose their target together.
    select * into strict v_sink from freshet.sink s where s.id = request_backfill.sink for update;
    if request_backfill.reason = 'rewarm' then
        rate := v_sink.max_rate;
    end if;
    if filter is null then
        v_run := freshet.join_backfill(sink, reason, rate, sweeps);
        if v_run is not null then
            return v_run;
        end if;
    end if;

    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    v_rows := freshet.estimate_rows(v_relid, filter);
    select null::text[] as lower, null::text[] as upper into v_bounds;
    if filter is not null then
        select b.lower, b.upper into v_bounds from freshet.filter_bounds(sink, filter) b;
        -- Where the filter does not say which keys to look at, all of them are.
        if v_bounds.upper is null then
            v_rows := freshet.estimate_rows(v_relid);
        end if;
    end if;
    -- Where rows share a key it is groups that are read. Of a sink that cannot be read its columns may be gone.
    v_units := case when v_sink.grouped and v_sink.broken is null then least(v_rows, freshet.estimate_rows(v_relid, filter, freshet.order_terms(
                   sink, (select pg_catalog.quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = v_relid), false)))
               else v_rows end;
    insert into freshet.backfill_run (sink_id, reason, filter, needed, sweeps, rate, rows_estimated)
    values (v_sink.id, request_backfill.reason, request_backfill.filter, request_backfill.reason <> 'user',
            request_backfill.sweeps, request_backfill.rate,
            v_units * pg_catalog.cardinality(v_sink.targets))
    returning id into v_run;

    select case when v_sink.broken is null then least(64, pg_catalog.ceil(v_rows::double precision / i.range_rows)) else 1 end
    into v_pieces from freshet.installation i;
    v_lower := v_bounds.lower;
    for v_point in
        select p from freshet.split_points(sink, v_pieces, v_bounds.lower, v_bounds.upper) as p
        union all
        -- the rest
        select v_bounds.upper
    loop
        foreach v_target in array v_sink.targets loop
            perform freshet.add_range(v_run, v_target, v_lower, v_point);
        end loop;
        v_lower := v_point;
    end loop;
    return v_run;
end
$$;

revoke all on function freshet.request_backfill(integer, text, text, integer, boolean) from public;

-- Enqueues a backfill that Freshet itself asks for, which `repairs` entries that may be wrong: that
-- one is not cancelled. Asked again and again while a target is
-- away, it is one backfill, which reads no row earlier than when it was last asked for.
drop function if exists freshet.request_rewarm(integer);
create or replace function freshet.request_rewarm(sink integer, repairs boolean default true)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    perform from freshet.sink s where s.id = request_rewarm.sink for update;
    if exists (select from freshet.sink s where s.id = request_rewarm.sink and s.state = 'retiring') then
        return null;
    end if;
    perform freshet.lock_ranges(request_rewarm.sink);
    -- What earlier ones wrote is written again: nobody need ask any more whether it is there.
    update freshet.backfill_range r
    set finished_xid = null
    from freshet.backfill_run b
    where b.id = r.run_id and b.sink_id = request_rewarm.sink and r.finished_xid is not null;
    -- What backfills of some rows have read and not written they read anew.
    update freshet.backfill_range r
    set requested = pg_catalog.pg_current_snapshot()
    from freshet.backfill_run b
    where b.id = r.run_id and b.sink_id = request_rewarm.sink and r.finished_at is null;
    v_run := freshet.request_backfill(request_rewarm.sink, 'rewarm');
    if request_rewarm.repairs then
        update freshet.backfill_run b set repairs = true where b.id = v_run and not b.repairs;
    end if;
    return v_run;
end
$$;

revoke all on function freshet.request_rewarm(integer, boolean) from public;

-- Asks for a sweep of a sink, on all its targets, that runs once its lanes have passed `after`.
create or replace function freshet.request_sweep(sink integer, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  text;
begin
    for v_target in
        select t.target from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = request_sweep.sink
    loop
        perform freshet.sweep_target(request_sweep.sink, v_target, after);
    end loop;
end
$$;

revoke all on function freshet.request_sweep(integer, pg_snapshot) from public;

-- Has what is not finished of a sink's backfills begin anew, as one range for each target:
-- tuples of its order columns mean something else from now on.
create or replace function freshet.restart_ranges(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_range  record;
begin
    perform from freshet.sink s where s.id = restart_ranges.sink for update;
    for v_range in
        select r.run_id, l.target, pg_catalog.array_agg(r.lease_id) as leases
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where l.sink_id = restart_ranges.sink and r.finished_at is null and not r.superseded
        group by r.run_id, l.target
    loop
        -- Without bounds: all that was touched since an open intent is looked at again.
        update freshet.backfill_range r
        set superseded = true, lower = null, upper = null, position = null, intent_upper = null,
            steps = r.steps + 1
        where r.lease_id = any (v_range.leases);
        perform freshet.add_range(v_range.run_id, v_range.target, null, null);
    end loop;
end
$$;

revoke all on function freshet.restart_ranges(integer) from public;

-- Lets a backfill that was paused go on from where it stopped.
create or replace function freshet.resume_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform freshet.find_backfill(id);
    perform freshet.continue_backfill(id);
end
$$;

comment on function freshet.resume_backfill(bigint) is 'Lets a backfill that was paused go on from where it stopped.';
revoke all on function freshet.resume_backfill(bigint) from public;

-- Lets a sink that is paused or failing go on from where it stopped.
create or replace function freshet.resume_sink(name text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(name);
begin
    perform freshet.check_owner(v_sink.id);
    update freshet.sink s
    set state = 'active', failing = null, revision = s.revision + 1
    where s.id = v_sink.id and s.state in ('paused', 'failing');
end
$$;

comment on function freshet.resume_sink(text)
is 'Lets a sink that is paused or failing go on from where it stopped.';
revoke all on function freshet.resume_sink(text) from public;

-- Looks whether a sink still makes sense after the columns or indexes of its source have
-- changed, and notes their types. What is wrong stops the sink, and is said in status.
create or replace function freshet.resurvey(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_relid  oid;
    v_parts  jsonb;
    v_order  smallint[];
    v_what   text;
    v_wrong  text;
begin
    select s.* into strict v_sink from freshet.sink s where s.id = resurvey.sink;
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    begin
        perform freshet.check_kind(v_relid);
        if exists (
            select from pg_catalog.unnest(v_sink.key_attnums) as u (attnum)
            where not exists (
                select from pg_catalog.pg_attribute a where a.attrelid = v_relid and a.attnum = u.attnum and not a.attisdropped))
        then
            raise exception 'key: a column of "%" is gone from %', v_sink.key, v_relid::pg_catalog.regclass;
        end if;
        v_parts := freshet.named_key(v_relid, v_sink.key_parts);
        v_order := freshet.walk_index(v_relid, v_parts, v_sink.grouped);
        if v_order is null then
            raise exception 'key: no % any more', pg_catalog.format(case when v_sink.grouped then 'index of %s begins with the columns of "%s"'
                else 'unique index of %s covers the columns of "%s"' end, v_relid::pg_catalog.regclass, v_sink.key);
        end if;
        perform freshet.check_key(v_parts);
        v_what := case when v_sink.grouped then 'group' else 'row' end;
        perform freshet.check_expression(v_relid, 'filter', v_sink.filter, 'condition');
        perform freshet.check_moment(v_relid, v_sink.expires_at, v_what);
        update freshet.sink s
        set value_type = freshet.check_expression(v_relid, 'value', v_sink.value, v_what),
            key_parts = v_parts, order_attnums = v_order, folded_attnums = freshet.folded(v_relid, v_parts)
        where s.id = v_sink.id;
        if (v_order, freshet.folded(v_relid, v_parts)) is distinct from (v_sink.order_attnums, v_sink.folded_attnums) then
            perform freshet.restart_ranges(v_sink.id);
        end if;
    exception when lock_not_available then
        -- Nothing is wrong with the sink. Whoever asked tries again.
        raise;
    when others then
        v_wrong := sqlerrm;
    end;
    -- It can be over by what nobody tells: a right that is granted again, an index that is no unique one.
    update freshet.sink s
    set broken = v_wrong, survey_after = case when v_wrong is not null then pg_catalog.clock_timestamp() + interval '5 seconds' end
    where s.id = v_sink.id and (v_wrong is not null or s.broken is not null);
end
$$;

revoke all on function freshet.resurvey(integer) from public;

-- Touches failing entries whose time has come, on these targets. Workers call it each
-- second, so that it depends on none of them. Returns how many it touched.
--
-- A lane that is not up to date is let alone: it has enough to do, and its change table
-- would grow while its target is away. What comes of the touch moves the time of the next
-- try, or takes the row away; where nothing does, it is touched again after a minute.
create or replace function freshet.retry_failures(targets text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_due      record;
    v_tuple    jsonb;
    v_touched  bigint := 0;
begin
    for v_due in
        with due as (
            select f.sink_id, f.target, f.key
            from freshet.failure f
            join freshet.sink s on s.id = f.sink_id
            join freshet.source o on o.id = s.source_id
            where f.next_try <= pg_catalog.clock_timestamp()
              and f.target = any (retry_failures.targets)
              and s.state = 'active'
              and o.relid is not null
              and not exists (
                  select from freshet.lease l
                  where l.sink_id = f.sink_id and l.target = f.target and l.kind = 'sync'
                    and coalesce(l.as_of < pg_catalog.clock_timestamp() - interval '1 minute', true))
            order by f.next_try
            limit 500
            for update of f skip locked
        ), tried as (
            update freshet.failure f
            set next_try = pg_catalog.clock_timestamp() + greatest(freshet.retry_pause(f.attempts), interval '1 minute')
            from due
            where f.sink_id = due.sink_id and f.target = due.target and f.key = due.key
            returning f.sink_id, f.tuple
        )
        select t.sink_id, pg_catalog.jsonb_agg(distinct pg_catalog.to_jsonb(t.tuple)) as tuples
        from tried t
        group by t.sink_id
    loop
        begin
            v_touched := v_touched + freshet.touch_keys(v_due.sink_id, v_due.tuples);
        exception
            -- A key column that was retyped may not take the text any more: no row can have such a key. One entry
            -- must not keep the others from being tried, and one sink not the others.
            when data_exception then
                for v_tuple in select t from pg_catalog.jsonb_array_elements(v_due.tuples) as t loop
                    begin
                        v_touched := v_touched + freshet.touch_keys(v_due.sink_id, pg_catalog.jsonb_build_array(v_tuple));
                    exception when data_exception then
                        raise warning 'a failing entry of sink % is of no row any more (SQLSTATE %)', (select s.name from freshet.sink s where s.id = v_due.sink_id), sqlstate;
                        delete from freshet.failure f where f.sink_id = v_due.sink_id and pg_catalog.to_jsonb(f.tuple) = v_tuple;
                    end;
                end loop;
            when syntax_error_or_access_rule_violation then
                raise warning 'failing entries of sink % cannot be tried again: %', (select s.name from freshet.sink s where s.id = v_due.sink_id), sqlerrm;
        end;
    end loop;
    return v_touched;
end
$$;

revoke all on function freshet.retry_failures(text[]) from public;

-- How long an entry waits that has failed so many times: a second, doubling, ten minutes at
-- most, a quarter more or less so that those that failed together are not tried together.
create or replace function freshet.retry_pause(attempts integer)
returns interval
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select least(600, pg_catalog.power(2, least(attempts, 20) - 1)) * (0.75 + pg_catalog.random() / 2) * interval '1 second'
$$;

revoke all on function freshet.retry_pause(integer) from public;

-- Looks at a sink anew whose value has come to be of another type, by a function or a table that
-- it looks into: what happens to the source itself is seen by freshet.mend. Every worker that
-- reads for it finds that out, and the first one changes something.
create or replace function freshet.retype(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink   freshet.sink;
    v_wrong  text;
begin
    select * into v_sink from freshet.sink s where s.id = retype.sink for update;
    if not found or v_sink.state = 'dropping' then
        return;
    end if;
    perform freshet.resurvey(retype.sink);
    select s.broken into v_wrong from freshet.sink s where s.id = retype.sink;
    if v_wrong is not null and v_sink.broken is null then
        -- Such as a right that is missing for the moment: it is the batch's failure, and tried again.
        raise exception '%', v_wrong;
    end if;
    if exists (select from freshet.sink s where s.id = retype.sink and s.value_type is not distinct from v_sink.value_type) then
        return;
    end if;
    update freshet.sink s
    set definition = s.definition + 1, revision = s.revision + 1,
        notice = case when s.on_schema_change = 'notice' then pg_catalog.format(
            'the value has come to be of another type on %s: run select freshet.backfill(%L) to give older entries their new shape',
            pg_catalog.to_char(pg_catalog.now(), 'YYYY-MM-DD'), s.name) else s.notice end
    where s.id = retype.sink;
    if v_sink.on_schema_change = 'rewarm' then
        perform freshet.request_rewarm(retype.sink, false);
    end if;
end
$$;

revoke all on function freshet.retype(integer) from public;

-- Asks for a re-warm and a sweep because a target has lost what the range of this lease
-- had written. Every lane of the sink finds that out; the first one asks.
create or replace function freshet.rewarm_lost(lease bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  integer := (select l.sink_id from freshet.lease l where l.id = rewarm_lost.lease);
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = v_sink for update;
    if not exists (
        select from freshet.backfill_range r where r.lease_id = rewarm_lost.lease and r.finished_xid is not null)
    then
        return false;
    end if;
    perform freshet.request_rewarm(v_sink);
    perform freshet.request_sweep(v_sink, pg_catalog.pg_current_snapshot());
    return true;
end
$$;

revoke all on function freshet.rewarm_lost(bigint) from public;

-- Asks for a re-warm and a sweep for the sake of one target. The first request is for all of
-- them, and later ones, while that is not over, are for this target only: one that refuses
-- writes, and has its lanes ask again and again, must not have the others written without end.
-- `repairs`: entries may be wrong, not just missing.
drop function if exists freshet.rewarm_target(integer, text);
create or replace function freshet.rewarm_target(sink integer, target text, repairs boolean)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = rewarm_target.sink for update;
    if exists (select from freshet.sink s where s.id = rewarm_target.sink and s.state = 'retiring') then
        return null;
    end if;
    -- The one that request_backfill would join, if it has this target.
    select max(b.id) into v_run
    from freshet.backfill_run b
    where b.sink_id = rewarm_target.sink and b.filter is null and b.state in ('queued', 'running');
    if not exists (
        select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = v_run and l.target = rewarm_target.target and not r.superseded)
    then
        perform freshet.request_sweep(rewarm_target.sink, pg_catalog.pg_current_snapshot());
        return freshet.request_rewarm(rewarm_target.sink, rewarm_target.repairs);
    end if;

    -- As in request_rewarm.
    perform freshet.lock_ranges(rewarm_target.sink);
    update freshet.backfill_range r
    set finished_xid = null
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = rewarm_target.sink and l.target = rewarm_target.target and r.finished_xid is not null;
    update freshet.backfill_range r
    set requested = pg_catalog.pg_current_snapshot()
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = rewarm_target.sink and l.target = rewarm_target.target and r.finished_at is null;
    perform freshet.redo_ranges(v_run, rewarm_target.target);
    update freshet.backfill_run b set needed = true, repairs = b.repairs or rewarm_target.repairs, paced_until = null where b.id = v_run;
    perform freshet.sweep_target(rewarm_target.sink, rewarm_target.target, pg_catalog.pg_current_snapshot());
    return v_run;
end
$$;

revoke all on function freshet.rewarm_target(integer, text, boolean) from public;

-- Asks for what has to follow when a lane can only go on from the floor of the change
-- table: of changes below it that the lane has not applied nobody knows any more. Rows are
-- written again by a backfill that was asked for at the floor or later, so one is enough for
-- all lanes, and for whoever raised the floor because the change table was damaged. What is
-- gone is found by a sweep that is still to come: one that is over may have been undone by
-- the loss that brought the lane here. Returns whether a re-warm was asked for.
create or replace function freshet.rewarm_trimmed(sink integer, floor pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_asked  boolean := false;
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = rewarm_trimmed.sink for update;
    if not exists (
        select from freshet.backfill_run b
        where b.sink_id = rewarm_trimmed.sink and b.filter is null and b.state in ('queued', 'running', 'sweeping', 'completed')
          and freshet.snapshot_covers(b.requested, rewarm_trimmed.floor))
    then
        perform freshet.request_rewarm(rewarm_trimmed.sink);
        v_asked := true;
    end if;
    if v_asked or exists (
        select from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = rewarm_trimmed.sink and not exists (
            select from freshet.lease l
            where l.sink_id = s.id and l.kind = 'sweep' and l.target = t.target and l.finished_at is null and not l.begun
              and freshet.snapshot_covers(l.cursor::pg_snapshot, rewarm_trimmed.floor)))
    then
        perform freshet.request_sweep(rewarm_trimmed.sink, pg_catalog.pg_current_snapshot());
    end if;
    return v_asked;
end
$$;

revoke all on function freshet.rewarm_trimmed(integer, pg_snapshot) from public;

-- Wakes whoever sleeps on a source, at commit. A sleeper holds the lock, so a
-- busy database never pays for a notification; see the trigger in make_capture_function.
create or replace function freshet.ring(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_catalog.pg_try_advisory_xact_lock_shared(1181905011, source)
        and pg_catalog.current_setting('max_prepared_transactions') = '0'
        and pg_catalog.pg_notification_queue_usage() < 0.5
    then
        perform pg_catalog.pg_notify('freshet_bell', source::text);
    end if;
end
$$;

revoke all on function freshet.ring(integer) from public;

-- Keeps a source's change table small: lets lanes lapse that are behind for longer than
-- their sink allows, has triggers go on to an empty segment when theirs is old or large,
-- and empties segments in which everything was applied long enough ago. Called every few
-- seconds by every worker; one at a time does it.
create or replace function freshet.rotate(source integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Others wait for what this has locked: it is tried again in a few seconds.
set lock_timeout = '500ms'
set enable_seqscan = off
set jit = off
as $$
declare
    v_set      freshet.installation;
    v_segment  record;
    v_spare    integer;
    v_passed   pg_snapshot;
    v_left     boolean;
    v_noted    boolean := false;
    v_did      boolean := false;   -- anything, so that it is not to be undone
    v_emptied  boolean;
    v_refused  text;
    v_now      jsonb;
begin
    if not pg_catalog.pg_try_advisory_xact_lock(1181905014, source)
        or pg_catalog.to_regclass('freshet.changes_' || source) is null
        -- What is damaged is mended first, and not covered up: also in the pause before
        -- that, for what rotation notes of the catalog would then be the damage.
        or freshet.needs_mending(source)
        or freshet.is_altered(source)
    then
        return;
    end if;
    select * into strict v_set from freshet.installation;

    update freshet.lease l
    set lapsed = true
    from freshet.sink s
    where s.id = l.sink_id and s.source_id = rotate.source and l.kind = 'sync' and not l.lapsed
      and (coalesce(l.as_of, s.created_at) < pg_catalog.clock_timestamp() - s.max_lag
           or case when s.max_pending is not null then s.max_pending < freshet.pending(s.source_id,
               coalesce(l.passed, pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot), s.max_pending + 1) end);
    v_did := found;

    -- Snapshots of one server are in order, but for those of lanes that begin just now.
    with lanes as (
        -- The cursor, and not what the lane has passed beyond it with nothing to do: another
        -- worker goes on from the cursor.
        select pg_catalog.split_part(l.cursor, ' ', 1)::pg_catalog.pg_snapshot as passed
        from freshet.lease l join freshet.sink s on s.id = l.sink_id
        where s.source_id = rotate.source and l.kind = 'sync' and not l.lapsed and s.state <> 'dropping'
    )
    select p.passed into v_passed
    from (select l.passed from lanes l union all select freshet.cursor_now() where not exists (select from lanes)) p
    where not exists (select from lanes o where not freshet.snapshot_covers(o.passed, p.passed))
    limit 1;
    if not found then
        return;
    end if;

    select g.number, g.current_since, pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) as bytes
    into v_segment
    from freshet.segment g
    where g.source_id = rotate.source and g.current_since is not null;
    if v_segment.bytes > v_set.rotate_bytes
        or (v_segment.bytes > 0 and v_segment.current_since < pg_catalog.clock_timestamp() - v_set.rotate_after)
    then
        select g.number into v_spare
        from freshet.segment g
        where g.source_id = rotate.source and g.current_since is null
          and pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) = 0
        order by g.created_at
        limit 1;
        if not found then
            execute pg_catalog.format('select freshet.%I(''create'', null)', 'keep_' || source);
            v_noted := true;
        -- A statement that reads the change table may have been planned before a segment was
        -- made; it must be over before anything is written there.
        elsif (select g.created_at < pg_catalog.clock_timestamp() - v_set.settle_after
               from freshet.segment g where g.source_id = rotate.source and g.number = v_spare)
        then
            execute pg_catalog.format('select freshet.%I(''switch'', $1)', 'keep_' || source) using v_spare;
            v_noted := true;
        end if;
    end if;

    -- What rotation itself changes in the catalog is no damage.
    if v_noted then
        v_did := true;
        v_now := freshet.fingerprint(source);
        update freshet.source s
        set fingerprint = s.fingerprint || pg_catalog.jsonb_build_object('function', v_now -> 'function', 'changes', v_now -> 'changes')
        where s.id = rotate.source;
    end if;

    for v_segment in
        select g.number, g.consumed, g.consumed_at
        from freshet.segment g
        where g.source_id = rotate.source and g.current_since is null
          and pg_catalog.pg_relation_size('freshet.changes_' || source || '_' || g.number) > 0
        order by g.number
    loop
        if v_segment.consumed_at < pg_catalog.clock_timestamp() - v_set.retention
            and freshet.snapshot_covers(v_passed, v_segment.consumed)
        then
            begin
                execute pg_catalog.format('select freshet.%I(''truncate'', $1)', 'keep_' || source) into v_emptied using v_segment.number;
                -- Or it was found to have what is not consumed, and noted so.
                v_did := v_did or v_emptied or exists (
                    select from freshet.segment g
                    where g.source_id = rotate.source and g.number = v_segment.number and g.consumed is null);
            exception when object_not_in_prerequisite_state then
                v_refused := sqlerrm;
            end;
        elsif v_segment.consumed is null or not freshet.snapshot_covers(v_passed, v_segment.consumed) then
            v_left := freshet.has_unseen(source, v_segment.number, v_passed);
            update freshet.segment g
            set consumed = case when not v_left then v_passed end,
                consumed_at = case when not v_left then pg_catalog.clock_timestamp() end
            where g.source_id = rotate.source and g.number = v_segment.number
              and (g.consumed is not null or not v_left);
            v_did := v_did or found;
        end if;
    end loop;
    -- What one segment is refused for is told when nothing else is undone by it.
    if v_refused is not null and not v_did then
        raise exception '%', v_refused using errcode = 'object_not_in_prerequisite_state';
    end if;
end
$$;

revoke all on function freshet.rotate(integer) from public;

-- The notes of partitions that came upon a source's readers, for freshet.mend to take in. One
-- that is being detached is not among them: what is to be done about it is known when it is gone.
create or replace function freshet.settled_notes(source integer)
returns table (relid oid, attached text, stays boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select n.relid, n.attached, i.inhrelid is not null
    from freshet.noted_partition n
    left join pg_catalog.pg_inherits i on i.inhrelid = n.relid and i.xmin::text = n.attached
    where n.source_id = settled_notes.source and i.inhdetachpending is distinct from true;
end
$$;

revoke all on function freshet.settled_notes(integer) from public;

-- Whether everything that is visible in `inner` is visible in `outer` too.
create or replace function freshet.snapshot_covers("outer" pg_snapshot, "inner" pg_snapshot)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_snapshot_xmax("outer") >= pg_catalog.pg_snapshot_xmax("inner")
       and not exists (
           select from pg_catalog.pg_snapshot_xip("outer") as x
           where pg_catalog.pg_visible_in_snapshot(x, "inner"))
$$;

revoke all on function freshet.snapshot_covers(pg_snapshot, pg_snapshot) from public;

-- Tuples of a sink's order columns that cut what is in (lower, upper] into about `pieces`
-- ranges with as many rows each, in order. They are drawn from a sample of the source's
-- blocks, so it does not matter what the key is made of or how it is distributed.
create or replace function freshet.split_points(sink integer, pieces integer, lower text[], upper text[])
returns setof text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_relid    oid;
    v_blocks   double precision;
    v_terms    text[] := freshet.order_terms(sink, 't', false);
    v_texts    text;
    v_present  text;
begin
    if pieces < 2 then
        return;
    end if;
    select o.relid into strict v_relid
    from freshet.sink s join freshet.source o on o.id = s.source_id
    where s.id = split_points.sink;
    select greatest(1, coalesce(sum(pg_catalog.pg_relation_size(c.relid)), 0) / pg_catalog.current_setting('block_size')::integer)
    into v_blocks
    from (select v_relid as relid
          union all select p.relid from freshet.partitions_of(v_relid) p) c;
    select pg_catalog.string_agg(pg_catalog.format('(%s)::pg_catalog.text', t), ', '),
           pg_catalog.string_agg(pg_catalog.format('%s is not null', t), ' and ')
    into v_texts, v_present
    from pg_catalog.unnest(v_terms) as t;

    return query execute pg_catalog.format(
        'select distinct on (c.piece) c.point from ('
        'select array[%1$s] as point, pg_catalog.ntile($1) over w as piece, pg_catalog.row_number() over w as n '
        'from %2$s as t tablesample system ($2) where %3$s and %4$s '
        'window w as (order by %5$s)) c where c.piece > 1 order by c.piece, c.n',
        v_texts, v_relid::pg_catalog.regclass, v_present, freshet.within(sink, v_terms, lower, upper),
        pg_catalog.array_to_string(v_terms, ', '))
    using pieces, least(100, 100 * greatest(300, 20 * pieces) / v_blocks);
end
$$;

revoke all on function freshet.split_points(integer, integer, text[], text[]) from public;

-- Notes that a lease's control key is about to be written for the first time, under this
-- definition of its sink. False if the lease has passed on, or the sink was redefined:
-- whoever redefines it looks only at the control keys that were noted by then.
create or replace function freshet.stamp_lease(lease bigint, epoch bigint, definition integer)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from freshet.sink s
    where s.id = (select l.sink_id from freshet.lease l where l.id = stamp_lease.lease)
      and s.definition = stamp_lease.definition
    for share;
    if not found then
        return false;
    end if;
    update freshet.lease l
    set stamped = true, definition = stamp_lease.definition
    where l.id = stamp_lease.lease and l.epoch = stamp_lease.epoch;
    return found;
end
$$;

revoke all on function freshet.stamp_lease(bigint, bigint, integer) from public;

-- Stops a sink because too many of its entries fail. Its cursors stay where they are.
create or replace function freshet.stop_failing(sink integer, reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.sink s
    set state = 'failing', failing = reason, revision = s.revision + 1
    where s.id = stop_failing.sink and s.state = 'active';
end
$$;

revoke all on function freshet.stop_failing(integer, text) from public;

-- Looks again at the sinks of a source that are broken, where the source is as it was. Returns which
-- are not any more, null if there is none.
create or replace function freshet.survey_broken(source integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  record;
    v_well  text[] := '{}';
begin
    for v_sink in
        select s.id, s.name from freshet.sink s
        where s.source_id = survey_broken.source and s.broken is not null and s.state <> 'dropping'
        order by s.id
    loop
        begin
            perform freshet.retype(v_sink.id);
        exception when lock_not_available then
            -- Nothing is wrong with the source, and the others would wait for the same.
            update freshet.sink s set survey_after = pg_catalog.clock_timestamp() + interval '5 seconds'
            where s.source_id = survey_broken.source and s.broken is not null;
            exit;
        end;
        update freshet.sink s set revision = s.revision + 1 where s.id = v_sink.id and s.broken is null;
        if found then
            v_well := v_well || pg_catalog.format('nothing stops the sink %I any more', v_sink.name);
        end if;
    end loop;
    return nullif(pg_catalog.array_to_string(v_well, '; '), '');
end
$$;

revoke all on function freshet.survey_broken(integer) from public;

-- Has a worker look for entries of a sink that have no row any more, and remove them.
create or replace function freshet.sweep(sink text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink  freshet.sink := freshet.find_sink(sink);
begin
    perform freshet.check_owner(v_sink.id);
    perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
end
$$;

comment on function freshet.sweep(text) is 'Removes entries that have no row any more.';
revoke all on function freshet.sweep(text) from public;

-- Asks for a sweep of a sink on one target that runs once its lanes there have passed `after`.
-- A sweep that waits for them takes the wish over; one that has begun may have looked already.
create or replace function freshet.sweep_target(sink integer, target text, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    update freshet.lease l
    set cursor = after::text
    where l.sink_id = sweep_target.sink and l.kind = 'sweep' and l.target = sweep_target.target
      and not l.begun and l.finished_at is null
      and freshet.snapshot_covers(after, l.cursor::pg_snapshot);
    if found then
        return;
    end if;

    insert into freshet.lease (sink_id, kind, target, part, cursor)
    values (sweep_target.sink, 'sweep', sweep_target.target,
            's' || pg_catalog.substr(pg_catalog.md5(pg_catalog.gen_random_uuid()::text), 1, 12), after::text)
    returning id into v_lease;
    perform freshet.enqueue_lease(v_lease);
end
$$;

revoke all on function freshet.sweep_target(integer, text, pg_snapshot) from public;

-- Takes every lease of these targets that needs no other functions of Go and whose holder has been silent for longer than
-- `silence` away from it and enqueues its successor. Returns how many there were. Ranges
-- that were parked and can be worked on again are enqueued, too.
create or replace function freshet.take_over(targets text[], transforms text[], silence interval)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  record;
    v_taken  integer := 0;
begin
    -- Workers that were killed say no farewell.
    delete from freshet.worker w where w.heartbeat_at < pg_catalog.clock_timestamp() - interval '10 minutes';
    delete from freshet.lease l
    where l.kind = 'sweep' and l.finished_at < pg_catalog.clock_timestamp() - interval '1 day';

    for v_lease in
        select l.id, l.epoch
        from freshet.lease l
        join freshet.sink s on s.id = l.sink_id
        cross join freshet.function_for(s, l) as n (function)
        where l.finished_at is null
          and l.target = any (take_over.targets)
          and (n.function is null or n.function = any (take_over.transforms))
          and l.heartbeat_at < pg_catalog.clock_timestamp() - silence
          -- A range waits until it is parked no more, or until a worker has work for its job.
          and not (l.kind = 'backfill' and l.holder is null and (
              exists (select from freshet.backfill_range r where r.lease_id = l.id and r.parked)
              or exists (select from freshet.river_job j 
                      where j.id = l.job_id and j.queue = freshet.queue_for(l.kind, l.target, n.function)
                        and j.state in ('available', 'scheduled', 'retryable'))))
        order by l.id
        for update of l skip locked
    loop
        if freshet.release_lease(v_lease.id, v_lease.epoch, silence) then
            v_taken := v_taken + 1;
        end if;
    end loop;
    perform freshet.unpark();
    return v_taken;
end
$$;

revoke all on function freshet.take_over(text[], text[], interval) from public;

-- Whether two key templates, as freshet.key_tokens lists them, could render the same key:
-- walks both at once, each place of one against each place of the other that some common
-- beginning leads to.
create or replace function freshet.tokens_overlap(one text[], other text[])
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    with recursive
    tokens as (select one as a, other as b),
    reached (i, j) as (
        select 1, 1
        union
        select s.i, s.j
        from reached r
        cross join tokens t
        cross join lateral (select t.a[r.i] as x, t.b[r.j] as y) c
        cross join lateral (
            -- both go on by the same character
            select r.i + 1 as i, r.j + 1 as j where c.x like '=%' and c.x = c.y
            union all
            -- a column may end anywhere
            select r.i + 1, r.j where c.x not like '=%'
            union all
            select r.i, r.j + 1 where c.y not like '=%'
            union all
            -- or take the other's character
            select r.i, r.j + 1 where c.y like '=%' and (c.x = '*' or (c.x like '[%' and pg_catalog.substr(c.y, 2) ~ c.x))
            union all
            select r.i + 1, r.j where c.x like '=%' and (c.y = '*' or (c.y like '[%' and pg_catalog.substr(c.x, 2) ~ c.y))
        ) s
    )
    select exists (
        select from reached r, tokens t
        where r.i > pg_catalog.cardinality(t.a) and r.j > pg_catalog.cardinality(t.b))
$$;

revoke all on function freshet.tokens_overlap(text[], text[]) from public;

-- Touches the tuples that a query returns: the key columns of a source by attribute
-- number, as the change table has them. Returns how many they were. Readers read every
-- segment, so the one that the triggers have left behind would do as well.
create or replace function freshet.touch(source integer, query text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment  text;
    v_columns  text;
    v_touched  bigint;
begin
    select 'changes_' || s.id || '_' || s.segment,
           (select pg_catalog.string_agg('k' || k.attnum, ', ' order by k.attnum)
            from pg_catalog.unnest(s.key_attnums) as k (attnum))
    into strict v_segment, v_columns
    from freshet.source s
    where s.id = touch.source;
    execute pg_catalog.format('insert into freshet.%I (op, %s) select ''r'', touched.* from (%s) as touched',
        v_segment, v_columns, query);
    get diagnostics v_touched = row_count;
    if v_touched > 0 then
        perform freshet.ring(source);
    end if;
    return v_touched;
end
$$;

revoke all on function freshet.touch(integer, text) from public;

-- Touches key tuples of a sink: [["1", "a"], ["2", "b"]], each in the order of the
-- sink's key columns by attribute number. Returns how many were touched.
--
-- The text of a key reads back the same under any settings but two: money has the form
-- of a locale, and {NULL} may be a word.
create or replace function freshet.touch_keys(sink integer, keys jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_sink     freshet.sink;
    v_columns  text;
begin
    select * into strict v_sink from freshet.sink s where s.id = touch_keys.sink;

    -- Columns that only other sinks of the source use stay null: those sinks skip the tuple.
    select pg_catalog.string_agg(
        case when p.n is null then pg_catalog.format('null::%s', pg_catalog.format_type(a.atttypid, a.atttypmod))
             else pg_catalog.format('(key ->> %s)::%s', p.n - 1, pg_catalog.format_type(a.atttypid, a.atttypmod)) end,
        ', ' order by k.attnum)
    into v_columns
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.id) and a.attname = 'k' || k.attnum
    left join pg_catalog.unnest(v_sink.key_attnums) with ordinality as p (attnum, n) on p.attnum = k.attnum
    where s.id = v_sink.source_id;

    return freshet.touch(v_sink.source_id,
        pg_catalog.format('select %s from pg_catalog.jsonb_array_elements(%L::jsonb) as key', v_columns, keys));
end
$$;

revoke all on function freshet.touch_keys(integer, jsonb) from public;

-- Touches the rows that a partition came with when it was made or attached, for those fired no
-- trigger. False if they are too many to be looked at while writers wait: the sinks have to be
-- warmed again instead.
create or replace function freshet.touch_partition(source integer, partition oid)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_partition_pruning = on
as $$
declare
    v_most     constant bigint := 8 << 20;   -- bytes; a tenth of a million rows may have as many
    v_relid    oid := (select s.relid from freshet.source s where s.id = touch_partition.source);
    v_within   text := pg_catalog.pg_get_partition_constraintdef(partition);
    v_columns  text;
begin
    if (select c.relkind from pg_catalog.pg_class c where c.oid = partition) <> 'r' or pg_catalog.pg_relation_size(partition) = 0 then
        return true;
    end if;
    if pg_catalog.pg_relation_size(partition) > v_most
        -- What row security hides now is read when it no longer is.
        or freshet.hides_rows(v_relid, pg_catalog.to_regrole(pg_catalog.quote_ident(current_user)))
        -- Beside a partition by hash, by several columns or by default others would be read as well.
        or v_within is null or v_within ~ '[(]NOT '
        or exists (
            select from pg_catalog.pg_partition_ancestors(partition) a
            join pg_catalog.pg_partitioned_table p on p.partrelid = a.relid
            where p.partstrat not in ('r', 'l') or p.partnatts <> 1)
    then
        return false;
    end if;
    -- By name: a partition may number its columns otherwise.
    select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_columns
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = s.relid and a.attnum = k.attnum
    where s.id = touch_partition.source;
    -- Through the parent: that is what the workers may read.
    perform freshet.touch(source, pg_catalog.format('select %s from %s t where t.tableoid = %s and %s',
        v_columns, v_relid::pg_catalog.regclass, partition, v_within));
    return true;
exception when lock_not_available then
    raise;
when others then
    -- Such as a type in the bounds that this role may not use.
    return false;
end
$$;

revoke all on function freshet.touch_partition(integer, oid) from public;

-- Touches the tuple of every row of a sink's source in (lower, upper], tuples of its
-- order columns.
create or replace function freshet.touch_rows(sink integer, lower text[], upper text[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lc_monetary = 'C'
set array_nulls = on
as $$
declare
    v_sink     freshet.sink;
    v_relid    oid;
    v_all      text;
begin
    select * into strict v_sink from freshet.sink s where s.id = touch_rows.sink;
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    select pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', ' order by a.attnum) into v_all
    from freshet.source s
    cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    join pg_catalog.pg_attribute a on a.attrelid = v_relid and a.attnum = k.attnum
    where s.id = v_sink.source_id;
    -- While the lock is held no policy changes.
    execute pg_catalog.format('lock table %s in access share mode', v_relid::pg_catalog.regclass);
    perform freshet.check_visible(v_relid);
    return freshet.touch(v_sink.source_id,
        pg_catalog.format('select %s from %s t where %s', v_all, v_relid::pg_catalog.regclass,
            freshet.within(v_sink.id, freshet.order_terms(v_sink.id, 't', false), lower, upper)));
end
$$;

revoke all on function freshet.touch_rows(integer, text[], text[]) from public;

-- What follows from a truncation that a lane of a target has come to, which leaves no tuples: entries
-- without a row are looked for once the lanes there have passed `after`. A group may have rows in
-- another partition, and is no orphan then.
create or replace function freshet.truncated(sink integer, target text, after pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from freshet.sink s join freshet.source o on o.id = s.source_id join pg_catalog.pg_class c on c.oid = o.relid
        where s.id = truncated.sink and s.grouped and c.relkind = 'p')
    then
        perform freshet.rewarm_target(truncated.sink, truncated.target, true);
    end if;
    perform freshet.sweep_target(truncated.sink, truncated.target, after);
end
$$;

revoke all on function freshet.truncated(integer, text, pg_snapshot) from public;

-- A lateral query, as text, for the tuples that the row c of a source's change table has: under
-- the names of its columns, one by one, whether they have a row each, or share it, or one is what
-- the other was before. A truncation
-- has one without values.
create or replace function freshet.tuples_of(source integer)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_one     text;
    v_old     text;
    v_moved   text;
    v_packed  text;   -- of a row that has lists; a column without one is null there
    v_names   text;
    v_lists   text;
begin
    select pg_catalog.string_agg('c.k' || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg('c.o' || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg(pg_catalog.format('c.o%s is not null', k.attnum), ' or ' order by k.attnum),
           pg_catalog.string_agg(case when a.attname is null then 'c.k' else 'u.k' end || k.attnum, ', ' order by k.attnum),
           pg_catalog.string_agg('k' || k.attnum, ', ' order by k.attnum) filter (where a.attname is not null),
           pg_catalog.string_agg(pg_catalog.format('pg_catalog.unnest(c.%I)', a.attname), ', ' order by k.attnum) filter (where a.attname is not null)
    into v_one, v_old, v_moved, v_packed, v_names, v_lists
    from freshet.source s cross join lateral pg_catalog.unnest(s.key_attnums) as k (attnum)
    left join pg_catalog.pg_attribute a
        on a.attrelid = pg_catalog.to_regclass('freshet.changes_' || s.id) and a.attname = 'k' || k.attnum || 's' and not a.attisdropped
    where s.id = tuples_of.source;
    if v_lists is null then
        return pg_catalog.format('(select %s union all select %s where %s)', v_one, v_old, v_moved);
    end if;
    return pg_catalog.format(
        '(select %s where c.tuples is null union all select %s where %s union all select %s from rows from (%s) as u (%s) where c.tuples is not null)',
        v_one, v_old, v_moved, v_packed, v_lists, v_names);
end
$$;

revoke all on function freshet.tuples_of(integer) from public;

-- The name of a type as it can be written anywhere: qualified unless it is Postgres'
-- own, and without a length (a cast to plain character would cut to one).
create or replace function freshet.type_name(type oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format_type(type, -1)
$$;

revoke all on function freshet.type_name(oid) from public;

-- Partitions of a source of which nothing is on record: they are neither in its fingerprint nor noted.
create or replace function freshet.unknown_partitions(source integer)
returns table (relid oid, attached text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relid   oid;
    v_leaves  jsonb;
begin
    -- In PL/pgSQL, which keeps the plans: this is asked in each read.
    select s.relid, coalesce(s.fingerprint -> 'leaves', '{}') into v_relid, v_leaves
    from freshet.source s where s.id = unknown_partitions.source;
    return query
    with recursive down (relid, attached, leaving) as (
        select v_relid, null::text, false
        union all
        -- Those that are being detached too: who has begun to read before goes on reading them.
        select i.inhrelid, i.xmin::text, i.inhdetachpending
        from down d
        join pg_catalog.pg_partitioned_table t on t.partrelid = d.relid
        join pg_catalog.pg_inherits i on i.inhparent = d.relid
        where not d.leaving
    )
    select d.relid, d.attached from down d
    where d.relid <> v_relid
      and not v_leaves ? d.relid::text
      and not exists (
          select from freshet.noted_partition n
          where n.source_id = unknown_partitions.source and n.relid = d.relid and n.attached = d.attached);
end
$$;

revoke all on function freshet.unknown_partitions(integer) from public;

-- Enqueues the parked ranges that can be worked on again: of these backfills, or of all.
create or replace function freshet.unpark(runs bigint[] default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    for v_lease in
        select l.id
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.parked and (runs is null or r.run_id = any (runs)) and freshet.backfill_turn(r.lease_id) in ('go', 'end')
        order by l.id
        for update of l skip locked
    loop
        update freshet.backfill_range r set parked = false where r.lease_id = v_lease and r.parked;
        if found then
            perform freshet.enqueue_lease(v_lease);
        end if;
    end loop;
end
$$;

revoke all on function freshet.unpark(bigint[]) from public;

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

-- The columns, in index order, of the index that a backfill walks. Where each row is to
-- have a key of its own, it is the one that makes tuples of the key unique: the primary key
-- if it does, else the smallest unique index that covers every row. Where rows may share a
-- key, it is one that begins with all columns of the key. Null if there is none.
--
-- A column that the key folds with |lower counts when the index is on lower(column), or
-- when the type itself ignores case. Where the column's collation takes different texts for
-- equal, the index must go by the same one: rows that the index tells apart and the column
-- does not could not be walked in order.
create or replace function freshet.walk_index(source oid, parts jsonb, grouped boolean)
returns smallint[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with terms as (
        select distinct a.attnum, a.attname,
               p.part -> 'modifiers' ? 'lower' as folded,
               freshet.ignores_case(source, a.attnum) as ignores_case,
               case when not c.collisdeterministic then c.oid end as collated
        from pg_catalog.jsonb_array_elements(parts) as p (part)
        join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = p.part ->> 'column'
        left join pg_catalog.pg_collation c on c.oid = a.attcollation
    )
    select k.attnums
    from pg_catalog.pg_index i
    cross join lateral (
        select pg_catalog.array_agg(t.attnum order by u.n) as attnums, count(*) = count(t.attnum) as covered
        from pg_catalog.unnest(i.indkey::smallint[]) with ordinality as u (attnum, n)
        left join terms t on coalesce(t.collated = i.indcollation[u.n - 1], true) and
            case when u.attnum > 0
                then t.attnum = u.attnum and (not t.folded or t.ignores_case)
                else t.folded and not t.ignores_case and pg_catalog.pg_get_indexdef(i.indexrelid, u.n::integer, false) in (
                    pg_catalog.format('lower(%I)', t.attname), pg_catalog.format('lower((%I)::text)', t.attname))
            end
        where u.n <= case when grouped then (select count(*) from terms) else i.indnkeyatts end
    ) k
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indrelid = source
      and i.indisvalid and i.indpred is null
      and (grouped and i.indnkeyatts >= (select count(*) from terms) or i.indisunique and i.indimmediate)
      and k.covered
    order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
    limit 1
$$;

revoke all on function freshet.walk_index(oid, jsonb, boolean) from public;

-- Takes what the expressions of a source's sinks are made of as it is now, those that were not watched
-- yet: what becomes of them from here on is noticed.
create or replace function freshet.watch_calls(source integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.source s
    set fingerprint = s.fingerprint || pg_catalog.jsonb_build_object(
        'calls', f.now -> 'calls' || coalesce(s.fingerprint -> 'calls', '{}'), 'types', f.now -> 'types' || coalesce(s.fingerprint -> 'types', '{}'))
    from (select freshet.fingerprint(watch_calls.source) as now) f
    where s.id = watch_calls.source and s.fingerprint is not null
      and exists (select from freshet.sink k where k.source_id = s.id and k.calls <> '[]')
$$;

revoke all on function freshet.watch_calls(integer) from public;

-- The transaction ids that are finished in `new` and were not in `old`, as closed
-- ranges in ascending order. Running transactions are cut out, so that the rows a
-- long writer has not committed are never walked over.
create or replace function freshet.window_ranges(old pg_snapshot, new pg_snapshot)
returns table (lo xid8, hi xid8)
language plpgsql
immutable
rows 4
set search_path = pg_catalog, pg_temp
as $$
declare
    v_next    bigint := pg_catalog.pg_snapshot_xmax(old)::text::bigint;
    v_end     bigint := pg_catalog.pg_snapshot_xmax(new)::text::bigint;
    v_running bigint;
begin
    -- Mostly nothing was running: a query for nothing takes longer than all else.
    if pg_catalog.pg_snapshot_xmin(old) < pg_catalog.pg_snapshot_xmax(old) then
        for lo in
            select x from pg_catalog.pg_snapshot_xip(old) as x
            where pg_catalog.pg_visible_in_snapshot(x, new)
            order by x
        loop
            hi := lo;
            return next;
        end loop;
    end if;

    if pg_catalog.pg_snapshot_xmin(new) < pg_catalog.pg_snapshot_xmax(new) then
        for v_running in
            select x::text::bigint as xid from pg_catalog.pg_snapshot_xip(new) as x
            where x::text::bigint >= v_next
            order by xid
        loop
            if v_running > v_next then
                lo := v_next::text::xid8;
                hi := (v_running - 1)::text::xid8;
                return next;
            end if;
            v_next := v_running + 1;
        end loop;
    end if;

    if v_end > v_next then
        lo := v_next::text::xid8;
        hi := (v_end - 1)::text::xid8;
        return next;
    end if;
end
$$;

revoke all on function freshet.window_ranges(pg_snapshot, pg_snapshot) from public;

-- The condition that a tuple of order columns, as of order_terms, is in (lower, upper];
-- null is no bound.
create or replace function freshet.within(sink integer, terms text[], lower text[], upper text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.concat_ws(' and ', 'true',
        case when lower is not null then pg_catalog.format('(%s) > (%s)', pg_catalog.array_to_string(terms, ', '), freshet.bound(sink, lower)) end,
        case when upper is not null then pg_catalog.format('(%s) <= (%s)', pg_catalog.array_to_string(terms, ', '), freshet.bound(sink, upper)) end)
$$;

revoke all on function freshet.within(integer, text[], text[], text[]) from public;

set local client_min_messages = notice;
select freshet.grant_roles();

commit;
reset client_min_messages;
