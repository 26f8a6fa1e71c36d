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
