package integration

import (
	"fmt"
	"testing"
)

// Changes of many rows next to each other are read in key order, and those of few among many
// by their keys; what comes out is the same.
func TestBulkWritesAreReadInKeyOrder(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table parts (region text collate "C", id bigint, name text, price numeric, unique (id, region), primary key (region, id))`)
	e.exec("insert into parts select chr(97 + g % 3), g, 'part ' || g, g from generate_series(1, 30000) g")
	e.exec("select freshet.create_sink('parts', 'parts', key => 'part:${id}:${region|url}', filter => 'price <> 13')")
	e.exec("select freshet.create_sink('shares', 'parts', key => 'share:${region}:${id}', value => '1000 / price', shards => 2)")
	e.start()
	e.lastBackfill("parts")
	e.lastBackfill("shares")
	check := func() {
		t.Helper()
		e.settle()
		e.inStep("part:*", "select 'part:' || id || ':' || region, to_jsonb(p)::text from parts p where price <> 13")
		e.inStep("share:*", "select 'share:' || region || ':' || id, (1000 / price)::text from parts where price <> 0")
	}
	for _, sql := range []string{
		"update parts set name = name || '!'",
		"update parts set price = price + 1 where id % 5 = 0",
		"update parts set price = case when id % 50 = 0 then 0 when id % 7 = 0 then 13 else id end",
		"delete from parts where id % 3 = 0",
		"update parts set id = id + 40000 where id % 2 = 0",
		"update parts set region = 'z' where id % 2 = 1",
		"insert into parts select 'b', g, 'new', 1 from generate_series(100001, 118000) g on conflict do nothing",
		"delete from parts where id > 50000",
		"update parts set name = 'last'",
	} {
		e.exec(sql)
		check()
	}
}

// Rows that lie far apart are read by a list of their keys; what comes out is the same, whatever the key is.
func TestManyRowsFarApartAreReadByAListOfTheirKeys(t *testing.T) {
	e := newEnv(t)
	kinds := []string{
		"integer", "uuid", "text", "date",
	}
	const keys = `case %[1]s when 'uuid' then md5(g::text)::uuid::text
		when 'date' then (date '2000-01-01' + g)::text
		when 'text' then g || ' {"it''s", a\\b} ' || chr(228) else g::text end`
	for i, kind := range kinds {
		e.exec(fmt.Sprintf("create table goods_%d (id %s primary key, n int, price numeric)", i, kind))
		e.exec(fmt.Sprintf("insert into goods_%d select (%s)::%s, g, g from generate_series(1, 24000) g", i, fmt.Sprintf(keys, "'"+kind+"'"), kind))
		e.exec(fmt.Sprintf("select freshet.create_sink('goods_%d', 'goods_%[1]d', key => 'goods_%[1]d:${id|url}', filter => 'price <> 13')", i))
	}
	e.exec("select freshet.create_sink('shares', 'goods_0', key => 'share:${id}', value => '1000 / price')")
	e.start()
	for i := range kinds {
		e.lastBackfill(fmt.Sprintf("goods_%d", i))
	}
	e.lastBackfill("shares")
	for _, sql := range []string{
		"update goods_%d set price = price + 1 where n %% 6 = 0",
		"update goods_%d set price = case when n %% 60 = 0 then 0 when n %% 18 = 0 then 13 else n end where n %% 6 = 0",
		"delete from goods_%d where n %% 7 = 0",
		"update goods_%d set price = 7 where n %% 5 = 0",
	} {
		for i := range kinds {
			e.exec(fmt.Sprintf(sql, i))
		}
		e.settle()
		for i := range kinds {
			// What encodes a key is slow, and most have nothing to encode.
			e.inStep(fmt.Sprintf("goods_%d:*", i), fmt.Sprintf(`
				select 'goods_%[1]d:' || case when id::text ~ '[^a-z0-9-]' then freshet.percent_encode(id::text) else id::text end, to_jsonb(g)::text
				from goods_%[1]d g where price <> 13`, i))
		}
		e.inStep("share:*", "select 'share:' || id, (1000 / price)::text from goods_0 where price <> 0")
	}
}
