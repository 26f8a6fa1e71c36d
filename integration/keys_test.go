package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestCompositeDefaultKeyPercentEncodesText(t *testing.T) {
	e := newEnv(t)
	e.exec("create schema billing")
	e.exec("create table billing.invoices (tenant text, number int, total numeric, primary key (tenant, number))")
	e.exec(`insert into billing.invoices values ('a:b', 1, 1.5), ('a', 1, 2), ('a%3Ab', 1, 3), ('Zoë/ünï', -7, 4), ('', 1, 5)`)
	e.exec("select freshet.create_sink('invoices', 'billing.invoices')")
	if key := one[string](e, "select key from freshet.sinks"); key != "billing.invoices:${tenant|url}:${number}" {
		t.Fatalf("default key %q", key)
	}
	e.start()
	e.settle()
	for _, key := range []string{"a%3Ab:1", "a:1", "a%253Ab:1", "Zo%C3%AB%2F%C3%BCn%C3%AF:-7", ":1"} {
		if e.entry("billing.invoices:"+key) == "" {
			t.Errorf("no entry under %s; there are %v", key, e.redis.Keys(t.Context(), "billing*").Val())
		}
	}
	e.exec("update billing.invoices set tenant = tenant || '/x' where number = 1")
	e.exec("delete from billing.invoices where number = -7")
	e.settle()
	if n := len(e.redis.Keys(t.Context(), "billing.invoices:*").Val()); n != 4 {
		t.Errorf("%d entries; want 4", n)
	}
	e.verifies("in step: 4 entries, 0 stale, 0 missing, 0 orphaned", 0, "invoices")
	e.exec("truncate billing.invoices")
	e.settle()
	if keys := e.redis.Keys(t.Context(), "billing.invoices:*").Val(); len(keys) != 0 {
		t.Errorf("left after truncate: %v", keys)
	}
}

func TestFreeTextIsFoundBetweenItsNeighbours(t *testing.T) {
	e := newEnv(t)
	e.exec("create table pages (site int, slug text, version uuid, body text, primary key (site, slug, version))")
	e.exec(`insert into pages select 1, slug, gen_random_uuid(), 'body' from unnest(array['a', 'a:b', ':', '', 'x:1:y']) slug`)
	e.exec("select freshet.create_sink('pages', 'pages', key => '{s${site}}:${slug}:${version}')")
	e.start()
	e.settle()
	promise := `select '{s' || site || '}:' || slug || ':' || version, to_jsonb(p)::text from pages p`
	e.inStep("{s*", promise)
	e.exec("truncate pages")
	e.exec(`insert into pages select 2, slug, gen_random_uuid(), 'body' from unnest(array['b', 'a:b']) slug`)
	e.settle()
	e.inStep("{s*", promise)
}

const lowerPromise = `select 'user:' || lower(email), to_jsonb(u)::text from users u`

func TestLowerWithAnIndexOnLower(t *testing.T) {
	e := newEnv(t)
	e.exec("create table users (id int primary key, email text not null)")
	e.refused("no unique index", "select freshet.create_sink('users', 'users', key => 'user:${email|lower}')")
	e.exec("create unique index on users (lower(email))")
	e.exec("insert into users select g, 'User' || g || '@Example.com' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users', key => 'user:${email|lower}')")
	e.start()
	e.settle()
	e.inStep("user:*", lowerPromise)

	e.exec("update users set email = upper(email) where id % 3 = 0")
	e.exec("update users set email = 'Ünï' || id where id % 5 = 0")
	e.exec("delete from users where id % 7 = 0")
	e.settle()
	e.inStep("user:*", lowerPromise)
	e.exec("select freshet.backfill('users')")
	e.settle()
	e.inStep("user:*", lowerPromise)
	e.exec("delete from users where id <= 1000")
	e.exec("truncate users")
	e.exec("insert into users values (1, 'ONE')")
	e.settle()
	e.inStep("user:*", lowerPromise)
}

func TestLowerOfATypeThatIgnoresCase(t *testing.T) {
	e := newEnv(t)
	e.exec("create extension citext")
	e.exec("create table users (id int primary key, email citext not null unique)")
	e.exec("insert into users select g, 'User' || g || '@Example.com' from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('users', 'users', key => 'user:${email|lower}')")
	e.exec("select freshet.create_sink('exact', 'users', key => 'exact:${email}')")
	exact := `select 'exact:' || email, to_jsonb(u)::text from users u`
	e.start()
	e.settle()
	e.inStep("user:*", lowerPromise)
	e.inStep("exact:*", exact)

	// Equal in SQL, and another key where case counts.
	e.exec("update users set email = upper(email::text)::citext where id % 3 = 0")
	e.exec("delete from users where id % 7 = 0")
	e.settle()
	e.inStep("user:*", lowerPromise)
	e.inStep("exact:*", exact)
}

func TestKeysThatCannotBeWrittenHaveNoEntry(t *testing.T) {
	e := newEnv(t)
	e.exec("create table words (word text primary key)")
	e.exec("insert into words values (''), (repeat('x', 512)), (repeat('y', 513))")
	e.exec("select freshet.create_sink('words', 'words', key => '${word}')")
	e.start()
	e.settle()
	if n := e.redis.Exists(t.Context(), strings.Repeat("x", 512)).Val(); n != 1 {
		t.Error("a key of 512 bytes has no entry")
	}
	if n := e.redis.Exists(t.Context(), "", strings.Repeat("y", 513)).Val(); n != 0 {
		t.Error("an empty key or one of 513 bytes was written")
	}
}

func TestAmbiguousAndOverlappingKeysAreRefused(t *testing.T) {
	e := newEnv(t)
	e.exec("create table t (a int, b int, c text, d text, n numeric, primary key (a, b), unique (c, d), unique (a, c), unique (a, n))")
	for key, text := range map[string]string{
		"x:${a}${b}":          "does not show where ${a} begins or ends",
		"x:${a}-${b}":         "does not show where ${a} begins or ends",
		"x:${c}:${d}":         "can both contain any text",
		"x:${c}${a}":          "does not show where ${a} begins or ends",
		"x:${a}0${b}":         "does not show where ${a} begins or ends",
		"x:${a}e${n}":         "", // e follows a, which has none
		"x:${n}e${a}":         "does not show where ${n} begins or ends",
		"x:${c|url}:${d}":     "",
		"x:${c|url}:${d|url}": "",
		"x:${a}:${c}":         "",
		"x:${c}:${a}":         "",
		"${a}.${b}":           "",
		"x:${c|upper}:${d}":   "has the modifiers",
		"x:${c|lower}:${c}":   "with |lower and without",
	} {
		statement := "select freshet.create_sink('s', 't', key => $1, backfill => false)"
		if text != "" {
			e.refused(text, statement, key)
			continue
		}
		e.exec(statement, key)
		e.exec("delete from freshet.sink")
	}

	e.exec("select freshet.create_sink('one', 't', key => 'product:${a}:${b}', backfill => false)")
	e.exec("select freshet.create_sink('two', 't', key => 'product:active:${a}:${b}', backfill => false)")
	for _, key := range []string{"product:${b}:${a}", "product:${a}:${c}", "prod${c|url}:${d}", "${c|url}:${d}"} {
		e.refused("writes the same keys already", "select freshet.create_sink('three', 't', key => $1, backfill => false)", key)
	}
	e.exec("select freshet.create_sink('three', 't', key => 'product:${a}:x:${c}', backfill => false)")
}

func TestKeysThatOnlyLookAlikeAreLeftAlone(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec("create table users (id int primary key, email text not null)")
	e.exec("create unique index on users (lower(email))")
	e.exec("insert into users values (1, 'Ada@x')")
	e.redis.Set(ctx, "user:ADA@y", "theirs", 0)
	e.exec("select freshet.create_sink('users', 'users', key => 'user:${email|lower}')")
	e.start()
	e.settle()
	e.verifies("in step: 1 entries, 0 stale, 0 missing, 0 orphaned", 0, "users")
	e.exec("truncate users")
	e.settle()
	e.exec("select freshet.drop_sink('users')")
	e.settle()
	if got := e.entry("user:ADA@y"); got != "theirs" {
		t.Errorf("user:ADA@y: %q", got)
	}
}

func TestControlKeysAreNobodysEntries(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec("create table notes (slug text primary key)")
	e.exec("insert into notes values ('a'), ('freshet:mine')")
	e.exec("select freshet.create_sink('notes', 'notes', key => '${slug}')")
	e.start()
	e.settle()
	if n := e.redis.Exists(ctx, "freshet:mine").Val(); n != 0 {
		t.Error("an entry was written under a key of Freshet's own form")
	}
	if e.entry("a") == "" {
		t.Error("no entry for an ordinary key")
	}
	e.verifies("in step: 1 entries, 0 stale, 0 missing, 0 orphaned", 0, "notes")
	controlKeys := e.redis.Keys(ctx, "freshet:*").Val()
	e.exec("truncate notes")
	e.settle()
	if now := e.redis.Keys(ctx, "freshet:*").Val(); len(now) != len(controlKeys) {
		t.Errorf("control keys %v; there were %v", now, controlKeys)
	}
	if n := one[int](e, "select count(*) from freshet.recent_changes where key ->> 'slug' like 'freshet:%' and operation = 'touch'"); n != 0 {
		t.Errorf("%d control keys were touched", n)
	}
}

func TestConcurrentDefinitionsDoNotMissEachOther(t *testing.T) {
	e := newEnv(t)
	e.exec("create table a (id int primary key); create table b (id int primary key)")
	e.exec("select freshet.create_sink('first', 'a', key => 'first:${id}')")
	begin := func(sql string) pgx.Tx {
		t.Helper()
		tx, err := e.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	for _, c := range []struct{ open, meanwhile, refused string }{
		{"select freshet.create_sink('one', 'a', key => 'same:${id}')", "select freshet.create_sink('two', 'b', key => 'same:${id}')", "writes the same keys"},
		{"select freshet.create_sink('next', 'a', key => 'next:${id}')", "select freshet.drop_sink('first')", ""},
	} {
		tx := begin(c.open)
		done := make(chan error, 1)
		go func() {
			_, err := e.db.Exec(context.Background(), c.meanwhile)
			done <- err
		}()
		e.await("the other waits", func() bool {
			return e.locked(c.meanwhile)
		})
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := <-done
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v", c.meanwhile, err)
		}
	}
	if n := one[int](e, "select count(*) from pg_trigger where tgrelid = 'a'::regclass"); n != 4 {
		t.Errorf("the table has %d triggers, with sinks on it", n)
	}
}

// Such a domain has no equality of its own.
func TestKeyOfADomainOverAnEnum(t *testing.T) {
	e := newEnv(t)
	e.exec(`create type mood as enum ('good', 'bad', 'so so'); create domain felt as mood;
		create table days (felt felt, n int, note text default '', primary key (felt, n))`)
	e.exec("insert into days select case g % 2 when 0 then 'good' else 'bad' end::felt, g from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('days', 'days', key => 'days:${felt}:${n}')")
	e.exec("create index on days (felt); select freshet.create_sink('felt', 'days', key => 'felt:${felt}', value => 'count(*)')")
	e.start()
	promise := func() {
		t.Helper()
		e.settle()
		e.inStep("days:*", "select 'days:' || felt || ':' || n, to_jsonb(d)::text from days d")
		e.inStep("felt:*", "select 'felt:' || felt, count(*)::text from days group by felt")
		if got := e.gaps(); len(got) > 0 {
			t.Fatalf("gaps: %q", got)
		}
	}
	promise()
	for n := range 30 {
		e.exec("update days set felt = 'so so', note = 'changed' where n = $1", n+1)
	}
	e.exec("update days set felt = 'bad' where n between 100 and 120")
	promise()
	e.exec("delete from days where n > 1500")
	e.exec("select freshet.backfill('days')")
	promise()
	// Of a part, by ranges, and by touches of what lies in one.
	e.exec("select freshet.backfill('days', 'n < 50')")
	promise()
	before := e.changes()
	e.exec("select freshet.touch_rows(1, array['good', '1400'], array['bad', '10'])")
	if n := e.changes() - before; n == 0 {
		t.Error("no row was touched")
	}
	if points := one[[]string](e, "select array(select p::text from freshet.split_points(1, 4, array['good', '10'], null) p)"); len(points) == 0 {
		t.Error("no points to split at")
	}
	promise()
}
