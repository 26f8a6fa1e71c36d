package integration

import (
	"strings"
	"testing"
)

// secured makes a table whose rows only their tenant sees.
func (e *env) secured() {
	e.t.Helper()
	e.exec("create table notes (id bigint primary key, tenant text not null, body text)")
	e.exec("create policy tenants on notes using (tenant = current_setting('app.tenant', true))")
	e.exec("alter table notes enable row level security")
	e.exec("insert into notes select g, 'tenant ' || g % 3, 'body' from generate_series(1, 300) g")
}

const (
	notesPromise = "select 'notes:' || id, to_jsonb(n)::text from notes n"
	letThrough   = "create policy freshet on notes for select to freshet_worker using (true)"
)

// seesAll reports whether the roles of this run of the tests are exempt from row security.
func (e *env) seesAll() bool {
	return one[bool](e, "select rolsuper from pg_roles where rolname = current_user")
}

func TestRowSecurityThatHidesRowsFromTheWorkerIsRefused(t *testing.T) {
	e := newEnv(t)
	e.secured()
	s := e.login("tenant", "freshet_admin", one[string](e, "select current_user"))
	s.refused(denied, "create policy freshet on public.notes for select to freshet_worker using (true);",
		"select freshet.create_sink('notes', 'notes')")
	// One that lets through part of the rows is not enough, nor one that is for writing.
	for _, policy := range []string{
		"create policy other on notes for select to freshet_worker using (tenant <> 'tenant 1')",
		"create policy other on notes for insert to freshet_worker with check (true)",
		"create policy other on notes for update to freshet_worker using (true)",
		"create policy other on notes for select to " + s.role() + " using (true)",
	} {
		e.exec(policy)
		s.refused(denied, "create policy freshet on", "select freshet.create_sink('notes', 'notes')")
		e.exec("drop policy other on notes")
	}
	e.exec(letThrough)
	e.exec("create policy narrow on notes as restrictive using (tenant <> 'tenant 2')")
	s.refused(denied, "A restrictive policy applies", "select freshet.create_sink('notes', 'notes')")
	e.exec("drop policy narrow on notes")
	s.exec("select freshet.create_sink('notes', 'notes')")
}

func TestRowSecurityThatLetsTheWorkerThroughHidesNothing(t *testing.T) {
	e := newEnv(t)
	e.secured()
	e.exec(letThrough)
	e.exec("select freshet.create_sink('notes', 'notes')")
	e.start()
	e.settle()
	e.inStep("notes:*", notesPromise)
	e.exec("update notes set body = 'changed' where id % 2 = 0; delete from notes where id % 5 = 0; insert into notes values (1000, 'new', 'x')")
	e.settle()
	e.inStep("notes:*", notesPromise)
	if stdout, stderr, status := e.freshet("verify", "notes"); status != 0 {
		t.Errorf("verify: %s%s", stdout, stderr)
	}
}

// Hidden rows look like deleted ones. Whatever becomes of the policies, no entry goes
// because of them, and no change is lost once the worker is let through again.
func TestRowsThatBecomeHiddenAreNeverTakenForDeletes(t *testing.T) {
	e := newEnv(t)
	e.exec("create table notes (id bigint primary key, tenant text not null, body text)")
	e.exec("insert into notes select g, 'tenant ' || g % 3, 'body' from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('notes', 'notes')")
	e.start()
	e.settle()
	before := e.redis.DBSize(t.Context()).Val()

	for _, hide := range []struct{ name, hide, show string }{
		{"enabled without a policy", "alter table notes enable row level security", letThrough},
		{"policy dropped", "drop policy freshet on notes", letThrough},
		{"restricted", "create policy narrow on notes as restrictive using (tenant <> 'tenant 2')", "drop policy narrow on notes"},
	} {
		e.exec(hide.hide)
		e.exec("update notes set body = $1", hide.name)
		if e.seesAll() {
			e.settle()
		} else {
			e.await(hide.name+" shows in status", func() bool {
				return one[bool](e, `select coalesce(bool_or(last_error_at > now() - interval '10 seconds'
					and last_error like '%row%security%'), false) from freshet.status`)
			})
			if n := e.redis.DBSize(t.Context()).Val(); n != before {
				t.Errorf("%s: there were %d keys and there are %d", hide.name, before, n)
			}
		}
		e.exec(hide.show)
		e.settle()
		e.inStep("notes:*", notesPromise)
	}
}

// Rows of another table that a value is made of are no less to be seen.
func TestHiddenRowsOfAnotherTableStopTheSink(t *testing.T) {
	e := newEnv(t)
	if e.seesAll() {
		t.Skip("nothing is hidden from a superuser")
	}
	e.exec("create table tenants (id bigint primary key, name text)")
	e.exec("create table notes (id bigint primary key, tenant_id bigint not null, body text)")
	e.exec("insert into tenants values (1, 'one'), (2, 'two')")
	e.exec("insert into notes select g, 1 + g % 2, 'b' from generate_series(1, 20) g")
	e.exec("alter table notes enable row level security; create policy freshet on notes for select to freshet_worker using (true)")
	e.exec(`select freshet.create_sink('cards', 'notes', key => 'cards:${id}', accept_drift => true,
		value => $$ jsonb_build_object('tenant', (select t.name from tenants t where t.id = tenant_id)) $$)`)
	e.start()
	const promise = "select 'cards:' || n.id, jsonb_build_object('tenant', t.name)::text from notes n join tenants t on t.id = n.tenant_id"
	e.follow("cards:*", promise)
	e.exec("alter table tenants enable row level security")
	e.exec("update notes set body = 'x'")
	e.await("status says so", func() bool {
		return strings.Contains(one[string](e, "select coalesce(last_error, '') from freshet.status"), "could hide rows of public.tenants")
	})
	e.inStep("cards:*", promise)
	e.exec("create policy freshet on tenants for select to freshet_worker using (true)")
	e.exec("update tenants set name = name || '!'; update notes set body = 'y'")
	e.follow("cards:*", promise)
}
