package integration

import "testing"

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
