package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// hint runs a statement that must fail with this text in its message and returns the
// hint of the error.
func (e *env) hint(text, sql string, args ...any) string {
	e.t.Helper()
	_, err := e.db.Exec(e.t.Context(), sql, args...)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || !strings.Contains(pgErr.Message, text) {
		e.t.Fatalf("%s: %v; want an error with %q", sql, err, text)
	}
	return pgErr.Hint
}

// older reports whether the server is of a version before this one.
func (e *env) older(major int) bool {
	e.t.Helper()
	return one[int](e, "select current_setting('server_version_num')::int") < major*10000
}

func TestUniqueIndexServesWhereThereIsNoPrimaryKey(t *testing.T) {
	e := newEnv(t)
	notDistinct := "unique nulls not distinct (code)"
	if e.older(15) {
		notDistinct = "unique (code)"
	}
	e.exec("create table plain (a int, b text, v int); create unique index on plain (b, a)")
	e.exec("create table nullable (email text unique, v int)")
	e.exec("create table single_null (code text, v int, " + notDistinct + ")")
	e.exec("create table covering (a int, b int, v text); create unique index on covering (a) include (b, v)")
	e.exec("create table several (id int, slug text not null, v int, unique (id) deferrable, unique (slug))")
	e.exec(`insert into plain select g, 'b' || g % 7, g from generate_series(1, 2500) g;
		insert into plain values (null, 'x', 0), (null, 'x', 1), (1, null, 2);
		insert into nullable select case when g % 3 > 0 then 'u' || g end, g from generate_series(1, 2500) g;
		insert into single_null values ('a', 1), (null, 2);
		insert into covering select g, g % 5, 'v' from generate_series(1, 2500) g;
		insert into covering values (null, 1, 'no entry');
		insert into several select g, 's' || g, g from generate_series(1, 10) g`)
	e.exec("select freshet.create_sink('plain', 'plain', key => 'plain:${a}:${b}')")
	e.exec("select freshet.create_sink('nullable', 'nullable', key => 'nullable:${email}')")
	e.exec("select freshet.create_sink('single_null', 'single_null', key => 'single_null:${code}')")
	e.exec("select freshet.create_sink('covering', 'covering', key => 'covering:${a}')")
	e.exec("select freshet.create_sink('several', 'several', key => 'several:${slug}')")
	// A column that only the index includes makes nothing unique.
	e.refused("no unique index covers", "select freshet.create_sink('included', 'covering', key => 'included:${b}')")
	if hint := e.hint("has no primary key", "select freshet.create_sink('default_key', 'plain')"); !strings.Contains(hint, "unique index") {
		t.Errorf("hint: %s", hint)
	}
	check := func() {
		t.Helper()
		e.follow("plain:*", "select 'plain:' || a || ':' || b, to_jsonb(t)::text from plain t where a is not null and b is not null")
		e.follow("nullable:*", "select 'nullable:' || email, to_jsonb(t)::text from nullable t where email is not null")
		e.follow("single_null:*", "select 'single_null:' || code, to_jsonb(t)::text from single_null t where code is not null")
		e.follow("covering:*", "select 'covering:' || a, to_jsonb(t)::text from covering t where a is not null")
		e.follow("several:*", "select 'several:' || slug, to_jsonb(t)::text from several t")
	}
	e.start()
	check()
	// To null and back, for each part of the key.
	for _, sql := range []string{
		"update plain set a = null where a % 5 = 0", "update plain set b = null where a % 7 = 0", "update plain set a = -v where a is null and b <> 'x'",
		"update plain set a = 7 where v = 1 and b = 'x'",
		"update nullable set email = null where v % 5 = 0", "update nullable set email = 'back' || v where email is null and v % 2 = 0",
		"update single_null set code = coalesce(code || 'b', 'was null')", "insert into single_null values (null, 3)", "update single_null set code = null, v = 9 where v = 2 and false",
		"delete from covering where a is null or a % 3 = 0", "update covering set b = b + 1, a = -a where a % 2 = 0",
		"update several set slug = slug || 'x', id = 11 - id",
	} {
		e.exec(sql)
	}
	check()
}

func TestIndexThatDoesNotCountIsNamed(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table "Late" (id int constraint "the key" primary key deferrable initially deferred, v int)`)
	e.exec("create table pairs (a int, b int, unique (a, b) deferrable)")
	hint := e.hint(`the constraint "the key" of public."Late" is deferrable`, `select freshet.create_sink('late', '"Late"')`)
	const mend = `alter table public."Late" drop constraint "the key", add PRIMARY KEY (id)`
	if !strings.Contains(hint, mend) {
		t.Errorf("hint: %s", hint)
	}
	e.hint("is deferrable", "select freshet.create_sink('pairs', 'pairs', key => 'pairs:${a}:${b}')")
	e.hint("no unique index covers", "select freshet.create_sink('pairs', 'pairs', key => 'pairs:${a}')")
	e.exec(mend)
	e.exec(`select freshet.create_sink('late', '"Late"')`)

	e.exec("create table twins (id int not null, v int)")
	e.exec("insert into twins values (1, 1), (1, 2)")
	e.refused("could not create unique index", "create unique index concurrently twins_id on twins (id)")
	hint = e.hint("the unique index public.twins_id is not valid", "select freshet.create_sink('twins', 'twins', key => 'twins:${id}')")
	if !strings.Contains(hint, "reindex index public.twins_id") {
		t.Errorf("hint: %s", hint)
	}
	e.exec("delete from twins where v = 2")
	e.exec("reindex index public.twins_id")
	e.exec("select freshet.create_sink('twins', 'twins', key => 'twins:${id}')")
}

// Collations under which texts that differ are equal: what counts is the bytes.
func TestKeysOfCollationsThatTakeDifferentTextsForEqual(t *testing.T) {
	e := newEnv(t)
	e.exec("create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	e.exec("create collation any_accent (provider = icu, locale = 'und-u-ks-level1-kc-true', deterministic = false)")
	e.exec("create table words (word text collate any_case primary key, v int)")
	e.exec("create table pairs (a text collate any_accent, b int, v int, primary key (b, a))")
	e.exec("create table folded (id int primary key, word text collate any_accent); create unique index on folded (lower(word))")
	e.exec("create table parted (word text collate any_case primary key, v int) partition by hash (word)")
	e.exec("create table parted_0 partition of parted for values with (modulus 2, remainder 0)")
	e.exec("create table parted_1 partition of parted for values with (modulus 2, remainder 1)")
	e.exec("create table apart (word text collate any_case, v int); create unique index on apart (word collate \"C\")")
	e.refused("no unique index covers", "select freshet.create_sink('apart', 'apart', key => 'apart:${word}')")
	for _, table := range []string{"words", "parted"} {
		e.exec(fmt.Sprintf("insert into %s select 'Word' || g, g from generate_series(1, 3000) g", table))
	}
	e.exec("insert into pairs select 'é' || g, g % 3, g from generate_series(1, 3000) g")
	e.exec("insert into folded select g, 'É' || g from generate_series(1, 3000) g")
	e.exec("select freshet.create_sink('words', 'words')")
	e.exec("select freshet.create_sink('pairs', 'pairs', key => 'pairs:${b}:${a}')")
	e.exec("select freshet.create_sink('folded', 'folded', key => 'folded:${word|lower}')")
	e.exec("select freshet.create_sink('parted', 'parted')")
	check := func() {
		t.Helper()
		e.follow("words:*", "select 'words:' || word, to_jsonb(t)::text from words t")
		e.follow("pairs:*", "select 'pairs:' || b || ':' || a, to_jsonb(t)::text from pairs t")
		e.follow("folded:*", "select 'folded:' || lower(word), to_jsonb(t)::text from folded t")
		e.follow("parted:*", "select 'parted:' || word, to_jsonb(t)::text from parted t")
	}
	e.start()
	check()
	e.exec("update words set word = upper(word) where v % 3 = 0")
	e.exec("update parted set word = upper(word) where v % 3 = 0")
	e.exec("update pairs set a = translate(a, 'é', 'e') where v % 3 = 0")
	e.exec("update folded set word = translate(word, 'É', 'e') where id % 3 = 0")
	check()
	e.exec("update words set word = lower(word) where v <= 1500")
	e.exec("delete from words where word = 'WORD7'")
	e.exec("insert into words values ('wORD7', -7), ('word1', -1) on conflict (word) do update set v = excluded.v")
	e.exec("insert into pairs values ('E2', 2, 0), ('e', 5, 0) on conflict (b, a) do update set a = excluded.a")
	check()
	// Entries that were left under a text which is only equal.
	for _, key := range []string{"words:wOrD10", "pairs:1:ẽ10", "folded:ẽ10"} {
		e.redis.Set(t.Context(), key, "{}", 0)
	}
	for _, sink := range []string{"words", "pairs", "folded", "parted"} {
		e.exec("select freshet.sweep($1)", sink)
	}
	check()
}
