package integration

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// newEnvOf has a database with this encoding.
func newEnvOf(t *testing.T, encoding string) *env {
	t.Helper()
	t.Parallel()
	databaseURL := serverstest.Postgres(t)
	at, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	name := path.Base(at.Path)
	at.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"drop database %s", "create database %s encoding '" + encoding + "' template template0 lc_collate 'C' lc_ctype 'C'"} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(sql, name)); err != nil {
			t.Fatal(err)
		}
	}
	return newEnvOn(t, databaseURL, serverstest.Redis(t))
}

// TestEntriesAreUTF8WhateverTheDatabaseIs has letters in keys, values, names and the filter that the database keeps in
// other bytes.
func TestEntriesAreUTF8WhateverTheDatabaseIs(t *testing.T) {
	e := newEnvOf(t, "LATIN1")
	conn := e.connectWith(map[string]string{"client_encoding": "UTF8"})
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`create table "größe" (name text primary key, "länge" text, tags text[])`)
	exec(`insert into "größe" select 'é' || n, 'üß' || n, array['ñ', null] from generate_series(1, 600) n`)
	exec(`select freshet.create_sink('sizes', '"größe"', key => 'größe:${name}', filter => $$"länge" <> 'üß7'$$)`)
	e.start()
	inStep := func(rows int) {
		t.Helper()
		e.settle()
		entries := e.under("größe")
		if len(entries) != rows {
			t.Errorf("%d entries; want %d", len(entries), rows)
		}
		for key, value := range entries {
			var want string
			if err := conn.QueryRow(t.Context(), `select to_jsonb(g)::text from "größe" g where name = $1 and "länge" <> 'üß7'`, key).Scan(&want); err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			if !sameJSON(value, want) {
				t.Errorf("%s: got %q, want %q", key, value, want)
			}
		}
	}
	inStep(599)
	exec(`update "größe" set name = 'è' || name, tags = '{à}' where name like '%00'`)
	exec(`delete from "größe" where name = 'é9'`)
	inStep(598)
}

// TestKeysOfADatabaseWithoutAnEncoding are whatever bytes the column has.
func TestKeysOfADatabaseWithoutAnEncoding(t *testing.T) {
	e := newEnvOf(t, "SQL_ASCII")
	e.exec("create table words (word text primary key, id int)")
	e.exec(`insert into words select E'caf\351 ' || n, n from generate_series(1, 600) n`)
	e.exec("select freshet.create_sink('words', 'words', key => 'words:${word}', columns => '{id}')")
	e.start()
	inStep := func(rows int) {
		t.Helper()
		e.settle()
		entries := e.under("words")
		for n := range rows {
			if key := fmt.Sprintf("caf\xe9 %d", n+1); entries[key] != fmt.Sprintf(`{"id":%d}`, n+1) {
				t.Errorf("%q: %q", key, entries[key])
			}
		}
		if len(entries) != rows {
			t.Errorf("%d entries; want %d", len(entries), rows)
		}
	}
	inStep(600)
	e.exec("delete from words where id > 500")
	inStep(500)
}

// TestValueThatIsNotUTF8IsItsEntrysFailure, and no other's: JSON cannot hold it.
func TestValueThatIsNotUTF8IsItsEntrysFailure(t *testing.T) {
	e := newEnvOf(t, "SQL_ASCII")
	e.exec("create table words (id int primary key, word text)")
	e.exec(`insert into words select n, case when n = 7 then E'caf\351' else 'word' end from generate_series(1, 600) n`)
	e.exec("select freshet.create_sink('words', 'words')")
	e.start()
	e.settle()
	if n := len(e.under("words")); n != 599 {
		t.Errorf("%d entries; want 599", n)
	}
	if failed := one[string](e, "select key || ' ' || sqlstate from freshet.failures"); failed != "words:7 22021" {
		t.Errorf("failures: %q", failed)
	}
	e.exec(`update words set word = case id when 7 then 'coffee' else E'th\351' end where id in (7, 8)`)
	e.await("the failures follow", func() bool {
		return one[string](e, "select coalesce(string_agg(key, ' '), '') from freshet.failures") == "words:8"
	})
	entries := e.under("words")
	if _, stale := entries["8"]; stale || len(entries) != 599 || entries["7"] != `{"id":7,"word":"coffee"}` {
		t.Errorf("%d entries, of 7 %q", len(entries), entries["7"])
	}
}
