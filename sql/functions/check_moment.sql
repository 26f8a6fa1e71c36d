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
