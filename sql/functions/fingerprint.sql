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
