package main

import (
	"fmt"
	"math/rand/v2"
)

// statement is a random one of the mixed writer's. A text that begins with "copy" is
// followed by its rows.
func (r *run) statement(draw *rand.Rand) string {
	sf := fmt.Sprintf
	n, id := draw.IntN(100_000), 1+draw.IntN(2000)
	day := sf("(date '2026-01-01' + %d)", draw.IntN(90))
	sku := 1 + draw.IntN(300)
	list := []string{
		// People, whose key is in their items, and whose filter flips.
		sf("update people set visits = visits + 1, seen = now() where id between %d and %d", id, id+5),
		sf("update people set active = not active where id between %d and %d", id, id+20),
		sf("update people set email = email || '%d' where id = %d and length(email) < 60", n%10, id),
		sf("update people set email = case when email like 'P%%' then lower(email) else 'P' || substr(email, 2) end where id between %d and %d", id, id+3),
		sf("update people set id = id + 10000 where id between %d and %d", id, id+2),
		sf("update people set id = id - 10000 where id between %d and %d and not exists (select from people o where o.id between %d and %d)", 10000+id, 10004+id, id, id+4),
		sf("update people set balance = balance * 1.5 + 0.%02d, extra = extra || '{\"n\": %d.50}', photo = decode(md5('%d'), 'hex') where id = %d and balance < 1e6", n%100, n, n, id),
		sf("delete from people where id = %d", id),
		sf("insert into people (id, email, name) values (%d, 'new/%d/%d@x.org', 'New') on conflict (id) do update set name = excluded.name || people.visits, visits = people.visits + 2", id, id, n),
		sf("with a as (delete from people where id between %d and %d returning *) insert into people select id, email, 'again', not active, balance, visits, seen, extra, null from a", id, id+4),
		// Items: through the cascade and by themselves.
		sf("insert into items select id, %d, 'more' from people where id between %d and %d on conflict (person_id, n) do update set note = 'conflict %d'", n%4000, id, id+6, n),
		sf("update items set n = n + 5000 where person_id between %d and %d and n < 5000", id, id+3),
		sf("update items set n = n - 5000, note = null where person_id between %d and %d and n > 5000", id, id+6),
		sf("delete from items where person_id between %d and %d and n %% 3 = 0", id, id+3),
		// Orders, from month to month and from leaf to leaf.
		sf("update orders set day = %s where id between %d and %d", day, id, id+6),
		sf("update orders set state = case state when 'open' then 'paid' else 'open' end, total = total + 1.10 where id %% 200 = %d", n%200),
		sf("update orders set id = id + 20000 where id between %d and %d", id, id+2),
		sf("update orders set id = id - 20000 where id between %d and %d", 20000+id, 20005+id),
		sf("insert into orders select %d + g, %s, g from generate_series(1, 6) g on conflict (id, day) do update set total = orders.total + excluded.person", id, day),
		sf("delete from orders where id between %d and %d", id, id+3),
		sf("update orders_2 set total = total * 1.00 where id %% 150 = %d and total < 1e9", n%150),
		sf("update orders_1 set state = 'void' where id %% 170 = %d", n%170),
		sf("copy orders (id, day, person, state, total) from stdin\n%d\t2026-02-%02d\t%d\topen\t1.50\n%d\t2026-05-01\t\\N\tpaid\t0\n", 40000+n, 1+n%28, id, 40000+n),
		// Prices: the same number in other digits is another key.
		sf("update prices set sku = sku + 0.00 where sku = %d / 10.0", sku),
		sf("update prices set sku = round(sku, 1) where sku = %d / 10.0", sku),
		sf("update prices set region = case region when 'r:1' then 'r 1/%%' when 'r 1/%%' then 'r:1' else region end where sku between %d / 10.0 and %d / 10.0", sku, sku+3),
		sf("update prices set price = price + 0.10, note = repeat('é', %d) where sku = %d / 10.0", n%3000, sku),
		sf("delete from prices where sku = %d / 10.0 and region = 'r:%d'", sku, 1+n%3),
		sf("insert into prices values (%d / 10.0, 'r:%d', %d, 'back') on conflict (sku, region) do update set note = 'there'", sku, 1+n%3, n),
		// Notes, sessions and events: made, changed, gone.
		sf("insert into notes (n, body) select %d, repeat('n', g) from generate_series(1, 12) g", n%500),
		sf("update notes set body = 'changed %d' where n %% 50 = %d", n, n%50),
		sf("update notes set id = gen_random_uuid() where n %% 70 = %d", n%70),
		sf("delete from notes where n between %d and %d", n%500, n%500+8),
		sf("insert into sessions values (%d, %d, 'begun') on conflict (id) do update set data = 'again %d', person = sessions.person + 1", id%600, id, n),
		sf("delete from sessions where id between %d and %d", id%600, id%600+1),
		sf("insert into events (kind, body) select g %% 5, 'e%d' from generate_series(1, 20) g", n),
		sf("update events set kind = (kind + 1) %% 5 where id %% 100 = %d", n%100),
		sf("delete from events where id %% 90 = %d", n%90),
		// Tables that change their form.
		sf("update shapes set n = n + 1 where id between %d and %d", id%600, id%600+5),
		sf("update shapes set label = label || '.', size = %d where id = %d and length(label) < 50", n%100, id%600),
		sf("insert into shapes (id, n) select g, %d from generate_series(%d, %d) g on conflict (id) do nothing", n, id%600, id%600+9),
		sf("delete from shapes where id %% 200 = %d", n%200),
		sf("insert into readings (id, slot) select g, g %% 4 from generate_series(%d, %d) g on conflict (id, slot) do update set body = 'again %d'", id, id+9, n),
		sf("update readings set body = 'changed %d' where id %% 60 = %d", n, n%60),
		sf("update readings set slot = (slot + 1) %% 4 where id %% 90 = %d and slot < 4", n%90),
		sf("delete from readings where id between %d and %d", id, id+3),
		sf("insert into catalogue (id, name) select g, 'new' from generate_series(%d, %d) g on conflict (id) do update set n = catalogue.n + 1", id%600, id%600+5),
		sf("update catalogue set name = 'name %d', n = n + 1 where id %% 50 = %d", n, n%50),
		sf("delete from catalogue where id between %d and %d", id%600, id%600+2),
		sf("update ratios set a = a %% 1000 + 3, note = 'at %d' where id %% 40 = %d", n, n%40),
		sf("update ratios set b = 1 + (b + %d) %% 7 where id between %d and %d and b > 0", n%3, id%400, id%400+8),
		sf("insert into ratios select g, %d, 2 from generate_series(%d, %d) g on conflict (id) do nothing", n%50, id%400, id%400+5),
		sf("delete from ratios where id = %d", id%400),
		// A few rows that everybody wants.
		"update hot set version = version + 1 where id = 1",
		sf("update hot set version = version + 1 where id = %d", 1+n%8),
		sf("update hot set version = version + 1, pad = repeat('%d', 200)", n%10),
	}
	if r.version >= 150000 {
		list = append(list,
			sf(`merge into people p using (select g as id from generate_series(%d, %d) g) s on p.id = s.id
				when matched and p.visits %% 7 = 0 then delete when matched then update set visits = p.visits + 1
				when not matched then insert (id, email) values (s.id, 'merged' || s.id || '/%d@x.org')`, id, id+5, n),
			sf(`merge into orders o using (select id, day from orders where id between %d and %d) s on (o.id, o.day) = (s.id, s.day)
				when matched and o.state = 'void' then delete when matched then update set day = o.day + 29`, id, id+4),
			sf(`merge into events e using (select generate_series(%d, %d) as id) s on e.id = s.id
				when matched then delete when not matched then insert (id, kind) overriding system value values (s.id, 1)`, id, id+3))
	}
	// Seldom: much at a time, and everything.
	switch draw.IntN(150) {
	case 0:
		return "truncate notes"
	case 1:
		return "truncate events"
	case 2:
		return "truncate sessions"
	case 3:
		return "update orders set total = total + 1"
	case 4:
		return "update people set extra = jsonb_build_object('all', visits)"
	case 5:
		return "insert into events (kind) select g % 5 from generate_series(1, 3000) g"
	case 6:
		return "delete from events"
	}
	return list[draw.IntN(len(list))]
}
