package main

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/pg"
)

// shopSinks are the sinks of the demo: one of every row with all columns, one of the
// rows that pass a filter with some of them.
var shopSinks = []struct{ name, create string }{
	{"products", `select freshet.create_sink('products', 'products', key => 'product:${id}')`},
	{"offers", `select freshet.create_sink('offers', 'products', key => 'offer:${id}',
		columns => '{id,name,price,stock}', filter => 'active and stock > 0')`},
}

const shopTable = `
create table products (
    id           bigint primary key,
    sku          text not null,
    name         text not null,
    description  text,
    category     text not null,
    price        numeric(10,2) not null,
    stock        integer not null,
    rating       real,
    tags         text[] not null default '{}',
    attributes   jsonb not null default '{}',
    active       boolean not null default true,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now()
)`

// productColumns and productValues make the product with the number n.
const (
	productColumns = `id, sku, name, description, category, price, stock, rating, tags, attributes, active`
	productValues  = `n, 'SKU-' || lpad(n::text, 9, '0'),
		(array['Walnut','Oak','Steel','Linen','Copper','Glass'])[1 + n % 6] || ' ' || (array['table','lamp','chair','shelf','bowl'])[1 + n % 5],
		case when n % 10 > 0 then 'Made to last, batch ' || n / 100 end,
		(array['kitchen','office','garden','bedroom'])[1 + n % 4],
		(n * 37 % 100000) / 100.0, n * 7 % 50, (n % 50) / 10.0,
		array['tag' || n % 9, 'tag' || n % 11], jsonb_build_object('weight', n % 400 / 10.0, 'colour', 'no. ' || n % 32), n % 8 > 0`
)

func (d *demo) createShop(ctx context.Context) error {
	if _, err := d.db.Exec(ctx, shopTable); err != nil {
		return err
	}
	_, err := d.db.Exec(pg.Patient(ctx), fmt.Sprintf(`insert into products (%s) select %s from generate_series(1, %d::bigint) as n`,
		productColumns, productValues, d.rows))
	return err
}
