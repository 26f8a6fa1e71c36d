package integration

import (
	"fmt"
	"strings"
	"testing"
)

// transforms are expressions, and what they make in SQL.
var transforms = []struct{ name, transform, more, promise string }{
	{"record", `record`, "", `to_jsonb(g)::text`},
	{"picked", `pick(record, "id", "price")`, "", `jsonb_build_object('id', id, 'price', price)::text`},
	{"omitted", `omit(record, "doc", "raw")`, ", columns => '{id,name,price,doc,raw}'", `jsonb_build_object('id', id, 'name', name, 'price', price)::text`},
	{"named", `{id: record.id, name: upper(record.name ?? "nobody"), price: (record.price ?? 0) * 1.19, when: record.at}`, "",
		`jsonb_build_object('id', id, 'name', upper(coalesce(name, 'nobody')), 'price', coalesce(price, 0) * 1.19, 'when', at)::text`},
	{"text", `record.name == nil ? nil : key + "/" + record.name`, "", `'text:' || id || '/' || name`},
	{"big", `record.id * 9007199254740993`, "", `(id::numeric * 9007199254740993)::text`},
	{"member", `record.doc?.a`, "", `case when doc -> 'a' <> 'null' then doc ->> 'a' end`},
}

func TestTransformMakesTheEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	const row = `%[1]s, case when %[1]s %% 7 > 0 then 'n' || %[1]s %% 10 end, %[1]s / 4.0, array['a', 'b' || %[1]s],
		case %[1]s %% 3 when 0 then jsonb_build_object('a', %[1]s) when 1 then '{"a": null}'::jsonb end, convert_to('é' || %[1]s, 'UTF8')`
	e.exec("insert into goods " + fmt.Sprintf("select "+row+" from generate_series(1, 700) g", "g"))
	for _, x := range transforms {
		e.exec(fmt.Sprintf("select freshet.create_sink($1::text, 'goods', key => $1::text || ':${id}', transform => $2%s)", x.more), x.name, x.transform)
	}
	e.start()
	for _, x := range transforms {
		e.lastBackfill(x.name)
	}
	inStep := func() {
		t.Helper()
		e.settle()
		for _, x := range transforms {
			e.inStep(x.name+":*", goodsPromise(x.name, x.promise))
			e.verified(x.name)
		}
	}
	inStep()
	e.exec("update goods set name = 'n' || id % 9, price = price + 1, doc = null where id % 5 = 0")
	e.exec("update goods set name = null, doc = '{\"a\": 7}' where id % 11 = 0")
	e.exec("delete from goods where id % 13 = 0")
	inStep()
	e.exec("select freshet.alter_sink('record', transform => 'record.name')")
	e.changed("record")
	e.settle()
	e.inStep("record:*", goodsPromise("record", "name"))
	e.exec("select freshet.alter_sink('record', reset => '{transform}')")
	e.changed("record")
	e.settle()
	e.inStep("record:*", goodsPromise("record", "to_jsonb(g)::text"))
}

func TestTransformThatFailsIsOneEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name, price) select g, 'x', nullif(g, 50) from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('goods', 'goods', transform => '{double: record.price * 2}')")
	e.start()
	e.lastBackfill("goods")
	e.settle()
	const promise = "select 'goods:' || id, jsonb_build_object('double', price * 2)::text from goods where price is not null"
	e.inStep("goods:*", promise)
	e.awaitFailing("goods:50")
	if text := one[string](e, "select error from freshet.failures"); !strings.Contains(text, "record.price is null") {
		t.Errorf("the view failures says %q", text)
	}
	e.exec("update goods set price = null where id = 60; update goods set price = 4 where id = 50")
	e.awaitFailing("goods:60")
	e.settle()
	e.inStep("goods:*", promise)
}

func TestTransformThatDoesNotFitStopsItsSinkOnly(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'a')")
	e.exec("select freshet.create_sink('wrong', 'users', key => 'wrong:${id}', transform => 'record.naem')")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.follow("users:*", usersPromise)
	e.await("status says why", func() bool {
		text := one[string](e, "select coalesce(last_error, '') from freshet.status where sink = 'wrong'")
		return strings.Contains(text, `"naem"`) && strings.Contains(text, "name")
	})
	e.exec("update users set name = 'b'")
	e.follow("users:*", usersPromise)
	e.exec("select freshet.alter_sink('wrong', transform => 'record.name')")
	e.follow("wrong:*", "select 'wrong:' || id, name from users")
	// The time changes when no row does.
	e.exec("select freshet.alter_sink('wrong', transform => 'let then = [now]; record.name + format(then[0], \"2006\")')")
	e.await("status says why", func() bool {
		return strings.Contains(one[string](e, "select coalesce(last_error, '') from freshet.status where sink = 'wrong'"), "transform: it uses now")
	})
	if got := e.entry("wrong:1"); got != "b" {
		t.Errorf("the entry became %q", got)
	}
	for _, bound := range []string{"expires => '1 h'", "reset => '{expires}', accept_drift => true", "reset => '{accept_drift}', expires_at => 'created_at + interval ''1 h'''"} {
		e.exec("select freshet.alter_sink('wrong', " + bound + ")")
		e.follow("wrong:*", "select 'wrong:' || id, name || to_char(now(), 'YYYY') from users")
		e.exec("update users set name = name || 'b'")
		e.follow("wrong:*", "select 'wrong:' || id, name || to_char(now(), 'YYYY') from users")
	}
	e.exec("update users set name = 'b'")
	e.exec("select freshet.alter_sink('wrong', transform => 'record.name', reset => '{expires_at}')")
	e.follow("wrong:*", "select 'wrong:' || id, name from users")
	// A column that goes takes the transform with it.
	e.exec("alter table users rename column name to called")
	e.follow("users:*", usersPromise)
	e.await("status says why", func() bool {
		return strings.Contains(one[string](e, "select coalesce(last_error, '') from freshet.status where sink = 'wrong'"), `"name"`)
	})
	if got := e.entry("wrong:1"); got != "b" {
		t.Errorf("the entry became %q", got)
	}
}
