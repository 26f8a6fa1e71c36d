package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// recipe is the SQL block of the README under this heading.
func recipe(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n**"+heading+"**")
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
	e.exec(recipe(t, "A sink for every table of a schema."))
	e.exec(recipe(t, "A sink for every table of a schema.")) // again, for tables that came later
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
