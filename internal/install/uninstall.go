package install

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Uninstall removes everything of Freshet's from a database: the triggers on its
// sources, the schema, what its two roles may do here, and the roles if migrations made
// them and no other database of the cluster needs them. It reports whether there was
// anything to remove, and the statements that are left to run for those who granted what
// this role may not revoke.
func Uninstall(ctx context.Context, pool *pgxpool.Pool) (removed bool, left []string, err error) {
	err = alone(ctx, pool, slog.New(slog.DiscardHandler), func(held pgx.Tx) error {
		if err := held.QueryRow(ctx, "select to_regnamespace('freshet') is not null").Scan(&removed); err != nil {
			return fmt.Errorf("look for Freshet's schema: %w", err)
		}
		if !removed {
			return nil
		}
		// Nobody creates a sink, or mends what is taken away here. See freshet.lock_definitions.
		if _, err := held.Exec(ctx, "set local lock_timeout = '10s'; select pg_advisory_xact_lock(1181905013)"); err != nil {
			return fmt.Errorf("wait for who changes sinks: %w", err)
		}
		if err := releaseAll(ctx, pool); err != nil {
			return err
		}
		left, err = dropSchema(ctx, pool)
		return err
	})
	return removed, left, err
}

func dropSchema(ctx context.Context, pool *pgxpool.Pool) (left []string, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Better no removal than readers that queue.
		if _, err := tx.Exec(ctx, "set local lock_timeout = '5s'; set local client_min_messages = warning; drop schema if exists freshet cascade"); err != nil {
			return fmt.Errorf("drop schema freshet: %w", err)
		}
		if _, err := tx.Exec(ctx, dropRoles); err != nil {
			return fmt.Errorf("drop Freshet's roles: %w", err)
		}
		rows, err := tx.Query(ctx, granted)
		if err != nil {
			return fmt.Errorf("list what Freshet's roles still may: %w", err)
		}
		if left, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("list what Freshet's roles still may: %w", err)
		}
		return nil
	})
	return left, err
}

// granted lists what the roles may still do in this database, as the statements that take
// it away.
const granted = `
select format('revoke all on %s %s from %I',
    case d.classid when 'pg_class'::regclass then 'table' when 'pg_proc'::regclass then 'function' else 'schema' end,
    case d.classid when 'pg_class'::regclass then d.objid::regclass::text when 'pg_proc'::regclass then d.objid::regprocedure::text else d.objid::regnamespace::text end,
    d.refobjid::regrole)
from pg_shdepend d
where d.dbid = (select oid from pg_database where datname = current_database())
  and d.refclassid = 'pg_authid'::regclass and d.refobjid in (to_regrole('freshet_admin'), to_regrole('freshet_worker'))
  and d.deptype = 'a' and d.classid in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass)
order by 1`

// dropRoles takes away what the roles may do in this database, and the roles themselves
// if freshet.grant_roles made them: it says so in their comment. What cannot be dropped
// is still needed, by another database or by something of the user's.
const dropRoles = `do $$
declare
    v_role    text;
    v_object  record;
begin
    foreach v_role in array array['freshet_admin', 'freshet_worker'] loop
        continue when to_regrole(v_role) is null;
        for v_object in
            select case d.classid when 'pg_class'::regclass then 'table' when 'pg_proc'::regclass then 'function' else 'schema' end as kind,
                   case d.classid when 'pg_class'::regclass then d.objid::regclass::text when 'pg_proc'::regclass then d.objid::regprocedure::text else d.objid::regnamespace::text end as name
            from pg_shdepend d
            where d.dbid = (select oid from pg_database where datname = current_database())
              and d.refclassid = 'pg_authid'::regclass and d.refobjid = to_regrole(v_role)::oid and d.deptype = 'a'
              and d.classid in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass)
        loop
            begin
                execute format('revoke all on %s %s from %I', v_object.kind, v_object.name, v_role);
            exception
                when insufficient_privilege then null;
            end;
        end loop;
        if shobj_description(to_regrole(v_role)::oid, 'pg_authid') like 'Freshet: %' then
            begin
                execute format('drop role %I', v_role);
            exception
                when dependent_objects_still_exist or insufficient_privilege or undefined_object then null;
            end;
        end if;
    end loop;
end
$$`
