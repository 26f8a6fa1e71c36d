package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recipe is the SQL block of the README under this heading, or the first of its recipes.
func recipe(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	begins := "\n**" + heading + "**"
	if heading == "" {
		begins = "\n### Recipes\n"
	}
	_, after, found := strings.Cut(string(text), begins)
	block := regexp.MustCompile("(?s)```sql\n(.*?)```").FindStringSubmatch(after)
	if !found || block == nil {
		t.Fatalf("README has no recipe %q", heading)
	}
	return block[1]
}

func TestRecipeForEveryTableOfASchema(t *testing.T) {
	e := newEnv(t)
	e.exec(`create schema shop; create table shop.items (id int primary key, name text);
		create table shop.orders (day date, number int, primary key (day, number)) partition by range (day);
		create table shop.orders_all partition of shop.orders default;
		create table shop.notes (text text)`)
	e.exec("insert into shop.items values (1, 'chair'); insert into shop.orders values ('2026-11-01', 1)")
	apply(t, e.databaseURL, recipe(t, "A sink for every table of a schema."))
	apply(t, e.databaseURL, recipe(t, "A sink for every table of a schema.")) // again, for tables that came later
	e.start()
	e.settle()
	if got := one[string](e, "select string_agg(sink, ', ' order by sink) from freshet.sinks"); got != "items, orders" {
		t.Errorf("sinks: %s", got)
	}
	e.inStep("shop.*", `select 'shop.items:' || id, to_jsonb(i)::text from shop.items i
		union all select 'shop.orders:' || day || ':' || number, to_jsonb(o)::text from shop.orders o`)
}

func TestRecipeForAComputedKey(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(10, 200) g")
	e.exec(recipe(t, "A computed key."))
	e.start()
	e.settle()
	promise := `select 'users:' || bucket || ':' || id, jsonb_build_object('id', id, 'name', name)::text from users`
	e.inStep("users:*", promise)
	e.exec("update users set id = id + 1000 where id % 2 = 0")
	e.settle()
	e.inStep("users:*", promise)
}

// recipes are those of the README's page by their headings, and what their entries have to be.
var recipes = []struct{ heading, sinks, promise string }{
	{"Some fields.", "products", `select 'products:' || id, jsonb_build_object('id', id, 'name', name, 'price', price)::text from products`},
	{"Other names.", "catalog", `select 'catalog:' || id, jsonb_build_object('sku', id, 'title', name, 'amount', price)::text from products`},
	{"A computed field.", "priced margins", `select 'priced:' || id, jsonb_build_object('id', id, 'price', price, 'gross', round(price * 1.19, 2))::text from products
		union all select 'margins:' || id, jsonb_build_object('id', id, 'margin', round(100 * (price - cost) / nullif(price, 0), 1))::text from products`},
	{"A key for each tenant.", "by_tenant", `select '{t' || tenant_id || '}:product:' || id, jsonb_build_object('id', id, 'name', name)::text from products`},
	{"A list for each owner.", "orders_of", `select 'orders_of:' || customer_id,
		jsonb_agg(jsonb_build_object('id', id, 'state', state, 'total', total) order by id desc)::text from orders group by customer_id`},
	{"A counter.", "open_orders", `select 'open_orders:' || customer_id, count(*)::text from orders where state = 'open' group by customer_id`},
	{"The newest of each.", "last_order", `select distinct on (customer_id) 'last_order:' || customer_id, to_jsonb(o)::text from orders o order by customer_id, id desc`},
	{"A join.", "cards", `select 'cards:' || p.id, jsonb_build_object('name', p.name, 'tenant', t.name)::text from products p left join tenants t on t.id = p.tenant_id`},
	{"Soft deletes.", "live_products", `select 'live_products:' || id, jsonb_build_object('id', id, 'name', name)::text from products where deleted_at is null`},
	{"An expiry that the row gives.", "offers", `select 'offers:' || id, jsonb_build_object('id', id, 'name', name, 'price', price)::text from products
		where offer_until is null or offer_until > now()`},
	{"Text that is ready to send.", "rows", `select 'rows:' || id, '<tr><td>' || replace(replace(name, '&', '&amp;'), '<', '&lt;') || '</td><td>' || price || '</td></tr>' from products`},
	{"Coming from `transform(action, record, changes, metadata)`.", "transformed",
		`select 'transformed:' || id, jsonb_build_object('id', id, 'name', upper(name), 'table', 'products')::text from products where deleted_at is null`},
}

func TestRecipes(t *testing.T) {
	e := newEnv(t)
	for _, sql := range strings.Split(recipe(t, ""), ";\n") {
		if strings.TrimSpace(sql) != "" {
			e.exec(sql)
		}
	}
	e.exec("insert into tenants select g, 'tenant ' || g from generate_series(1, 5) g")
	e.exec(`insert into products select g, g % 6 + 1, 'a <b> & ' || g, g / 4.0, nullif(g % 9, 0), repeat('long ', g),
		case g % 3 when 0 then now() + interval '1 day' when 1 then now() - interval '1 day' end, case when g % 5 = 0 then now() end from generate_series(0, 299) g`)
	e.exec("insert into orders select g, g % 40, case when g % 3 = 0 then 'open' else 'done' end, g from generate_series(1, 400) g")
	var promises []string
	for _, r := range recipes {
		for _, sql := range strings.Split(recipe(t, r.heading), ";\n") {
			if strings.TrimSpace(sql) != "" {
				e.exec(sql)
			}
		}
		promises = append(promises, "("+r.promise+")")
	}
	e.start()
	sinks := 0
	for _, r := range recipes {
		for _, sink := range strings.Fields(r.sinks) {
			e.lastBackfill(sink)
			sinks++
		}
	}
	if made := one[int](e, "select count(*) from freshet.sinks"); made != sinks {
		t.Errorf("%d sinks were made, and %d are looked at", made, sinks)
	}
	inStep := func() {
		t.Helper()
		e.settle()
		e.inStep("[^f]*", strings.Join(promises, " union all "))
	}
	inStep()
	if ttl := e.redis.TTL(t.Context(), "cards:1").Val(); ttl <= 0 || ttl > 10*time.Minute {
		t.Errorf("a joined entry expires in %v", ttl)
	}
	if ttl := e.redis.TTL(t.Context(), "offers:3").Val(); ttl <= 0 || ttl > 24*time.Hour {
		t.Errorf("an offer expires in %v", ttl)
	}
	for _, sql := range []string{
		"update products set name = name || '!', price = price + 1 where id % 2 = 0",
		"update products set deleted_at = case when deleted_at is null then now() end where id % 7 = 0",
		"update products set tenant_id = tenant_id % 5 + 1, offer_until = now() + interval '1 h' where id % 4 = 0",
		"update orders set state = 'open' where id % 4 = 0",
		"update orders set customer_id = customer_id + 1 where id % 6 = 0",
		"delete from orders where customer_id between 10 and 20",
		"delete from products where id % 11 = 0",
		"insert into orders select g, g % 60, 'open', g from generate_series(1000, 1100) g",
	} {
		e.exec(sql)
	}
	inStep()
	for _, r := range recipes {
		for _, sink := range strings.Fields(r.sinks) {
			e.verified(sink)
		}
	}
}
