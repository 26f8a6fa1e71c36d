package render

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// describe asks the catalog for the column as a caller would: with the type beneath a domain.
func describe(t fataler, conn *pgx.Conn, name, sqlType string) Column {
	t.Helper()
	c := Column{Name: name}
	var typtype string
	err := conn.QueryRow(context.Background(), `
		with recursive base as (
			select oid, typtype, typbasetype from pg_type where oid = $1::text::regtype
			union all
			select p.oid, p.typtype, p.typbasetype from base b join pg_type p on p.oid = b.typbasetype where b.typtype = 'd'
		)
		select oid, typtype::text from base where typtype <> 'd'`, sqlType).Scan(&c.Type, &typtype)
	if err != nil {
		t.Fatalf("describe %s: %v", sqlType, err)
	}
	c.Kind = typtype[0]
	return c
}

// compare renders every row of a query as an object and as key parts, and lets Postgres judge them. The query must
// have the alias t, as in `from something t`.
func compare(t fataler, conn *pgx.Conn, columns []Column, from string, args ...any) {
	t.Helper()
	object := NewObject(columns)
	exprs := object.Select("t")
	pairs := make([]string, len(columns))
	for i, c := range columns {
		name := pgx.Identifier{c.Name}.Sanitize()
		pairs[i] = fmt.Sprintf("%s, t.%s", quoteLiteral(c.Name), name)
		exprs = append(exprs, NewKeyPart(c).Select("t"), "t."+name+"::text")
	}
	exprs = append(exprs, "jsonb_build_object("+strings.Join(pairs, ", ")+")::text")
	rows, err := conn.Query(context.Background(), "select "+strings.Join(exprs, ", ")+" "+from,
		append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		t.Fatalf("select: %v", err)
	}
	defer rows.Close()

	var got, want []string
	for rows.Next() {
		raw := rows.RawValues()
		theirs := string(raw[len(raw)-1])
		ours, err := object.Append([]byte("before"), raw[:len(columns)])
		if err != nil {
			t.Fatalf("append: %v, want %s", err, theirs)
		}
		if string(ours[:6]) != "before" {
			t.Fatalf("what stood in the buffer is gone: %q", ours)
		}
		ours = ours[6:]
		if !json.Valid(ours) || !utf8.Valid(ours) {
			t.Fatalf("not JSON: %q, want %s", ours, theirs)
		}
		got, want = append(got, string(ours)), append(want, theirs)

		for i, c := range columns {
			part, text := raw[len(columns)+2*i], raw[len(columns)+2*i+1]
			if part == nil {
				continue
			}
			key, err := NewKeyPart(c).Append(nil, part)
			if err != nil || string(key) != string(text) {
				t.Fatalf("key part %q (%v), want %q", key, err, text)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("select: %v", err)
	}
	if len(got) == 0 {
		t.Fatalf("no rows to compare")
	}
	judge(t, conn, got, want)
}

// judge has Postgres compare as jsonb, in one query, and the texts of the jsonb, where 1.0 and 1.00 differ too.
func judge(t fataler, conn *pgx.Conn, got, want []string) {
	t.Helper()
	rows, err := conn.Query(context.Background(),
		`select g, w from unnest($1::text[], $2::text[]) as x (g, w) where g::jsonb is distinct from w::jsonb or g::jsonb::text <> w`, got, want)
	if err != nil {
		t.Fatalf("compare: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var g, w string
		if err := rows.Scan(&g, &w); err != nil {
			t.Fatalf("compare: %v", err)
		}
		t.Fatalf("rendered %s\nto_jsonb %s", g, w)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("compare: %v", err)
	}
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
