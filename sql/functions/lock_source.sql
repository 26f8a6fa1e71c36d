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
