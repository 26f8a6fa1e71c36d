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
