package main

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/render"
)

// table is what is warmed: 12 columns of mixed types, about 300 bytes of JSON a row.
const table = `create table %[1]s (
	id bigint primary key, account_id integer not null, email text not null, name text not null, status text not null,
	active boolean not null, balance numeric(12,2) not null, score double precision not null, token uuid not null,
	created_at timestamptz not null, born date, settings jsonb not null);
insert into %[1]s
select g, g %% 5000, 'user' || g || '@example.com', 'User number ' || g, (array['active','invited','closed'])[g %% 3 + 1],
       g %% 7 <> 0, (g %% 1000000) / 100.0, sqrt(g), md5(g::text)::uuid,
       timestamptz '2026-01-01 00:00:00+00' + g * interval '1.7 s', date '1950-01-01' + g %% 20000,
       jsonb_build_object('theme', case when g %% 2 = 0 then 'dark' else 'light' end, 'langs', jsonb_build_array('en', 'fr'), 'n', g)
from generate_series(1, %[2]d) g;`

// makeTable makes the table with n rows, and nothing of it is left to be cleaned up later.
func (s *stage) makeTable(ctx context.Context, name string, n int) error {
	if err := s.exec(ctx, "drop table if exists "+name); err != nil {
		return err
	}
	if err := s.exec(ctx, fmt.Sprintf(table, name, n)); err != nil {
		return err
	}
	return s.exec(ctx, "vacuum (analyze, freeze) "+name)
}

// columns asks the catalog what a renderer has to know of a table.
func (s *stage) columns(ctx context.Context, name string) ([]render.Column, error) {
	rows, err := s.db.Query(ctx, `select a.attname, a.atttypid, t.typtype::text from pg_attribute a join pg_type t on t.oid = a.atttypid
		where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []render.Column
	for rows.Next() {
		var (
			c    render.Column
			kind string
		)
		if err := rows.Scan(&c.Name, &c.Type, &kind); err != nil {
			return nil, err
		}
		c.Kind = kind[0]
		list = append(list, c)
	}
	return list, rows.Err()
}
