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
