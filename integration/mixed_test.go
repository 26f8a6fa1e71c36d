package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// mixedWriter writes to the ferry line's tables in every way that there is.
type mixedWriter struct {
	*rand.Rand
	conn   *pgx.Conn
	merges bool
	failed map[string]int // SQLSTATE of what the database refused, and how often
}

// expected are the errors that writers get from each other: deadlocks, rows that moved to
// another partition under them, and rows that somebody else inserted or removed.
var expected = []string{"40P01", "40001", "23505", "23503"}

// statement is a random one. Texts that begin with "copy" are followed by their rows.
func (w *mixedWriter) statement() string {
	sf := fmt.Sprintf
	n, ticket, account := w.IntN(1000), w.IntN(900), w.IntN(2200)
	customer := sf("'person%d@example.com'", w.IntN(80)) // in another case than it was written
	states := []string{"held", "paid", "void"}
	long := pgx.Identifier{longName}.Sanitize()
	list := []string{
		// Tickets, from month to month and from leaf to leaf.
		sf(`insert into booking.ticket select %d + g, '2026-01-20'::date + (g * 7) %% 60, c.email, s.id, g, '%s'
			from generate_series(1, 10) g, (select email from booking.customer offset %d limit 1) c, (select id from booking.sailing offset %d limit 1) s
			on conflict (id, bought) do update set price = excluded.price + 1, state = excluded.state`, ticket, states[w.IntN(3)], w.IntN(80), w.IntN(50)),
		sf("update booking.ticket set bought = bought + %d where id between %d and %d", w.IntN(62)-31, ticket, ticket+12),
		sf("update booking.ticket set id = id + %d where id between %d and %d", w.IntN(800)-400, ticket, ticket+6),
		sf("update booking.ticket set state = '%s', price = price + 1 where id between %d and %d", states[w.IntN(3)], ticket, ticket+12),
		sf(`update booking.paid set state = 'void', extras = extras || '["seat"]' where id %% 37 = %d`, n%37),
		sf("update booking.ticket_01 set price = price * 2 where id %% 29 = %d", n%29),
		sf("delete from booking.ticket where id between %d and %d", ticket, ticket+5),
		sf("insert into booking.luggage select id, bought, %d, 'piece' from booking.ticket where id between %d and %d on conflict do nothing", w.IntN(3), ticket, ticket+10),
		sf("update booking.luggage l set label = t.state || ' %d', piece = piece + 1 from booking.ticket t where (t.id, t.bought) = (l.ticket_id, l.bought) and t.id between %d and %d", n, ticket, ticket+5),
		sf("delete from booking.luggage l using booking.ticket t where (t.id, t.bought) = (l.ticket_id, l.bought) and t.state = 'void' and t.id %% 11 = %d", n%11),
		sf("copy booking.ticket (id, bought, customer, sailing_id, price) from stdin\n%d\t2026-02-0%d\tPerson%d@Example.com\t%d\t1.50\n", 2000+n, 1+w.IntN(9), w.IntN(80), 1+w.IntN(60)),
		// Customers, whose key is in their tickets and their balance.
		sf("update booking.customer set email = 'Renamed%d@Example.com' where email = %s", n, customer),
		sf("update booking.customer set email = 'Person%[1]d@Example.com' where email::text ~* '^renamed[0-9]*%[1]d@'", w.IntN(10)),
		sf("update booking.customer set email = upper(email::text)::citext where email = %s", customer),
		sf("update booking.customer set name = name || ' %d', home = row(name, 'Åbo', null)::booking.address where email = %s", n, customer),
		sf("delete from booking.customer where email = %s", customer),
		sf("insert into booking.customer (email, name, home) values (%s, 'Again', row('a', 'b', 'c')::booking.address) on conflict (email) do update set born = null", strings.ToUpper(customer)),
		// Ports and sailings: updates and deletes that cascade through two columns.
		sf("update fleet.port set code = case when code like 'N%%' then 'HEL' else 'N%d' end where name = 'Port HEL'", n),
		sf("update fleet.port set code = code || %s, tags = tags || 'x'::text where name = 'Port a:b' and length(code) < 20", quoted(string([]rune(`:%/é\ `)[w.IntN(6)]))),
		sf("delete from fleet.port where name = 'Port %d'", n%4),
		sf("insert into fleet.port (code, name) values ('%d', 'Port %[1]d') on conflict (code) do update set facts = '{\"n\": 1.0}'", n%4),
		sf("insert into booking.sailing (from_port, to_port, leaves, notes) select code, code, now(), 'rough seas' from fleet.port order by code limit 2"),
		sf("update booking.sailing set notes = 'delayed %d', leaves = leaves + interval '1 hour' where id %% 13 = %d", n, n%13),
		sf("delete from booking.sailing where id = %d", 1+w.IntN(60)),
		// Ships: an identity that only the database gives.
		"with s as (insert into fleet.ship (name, purpose, photo) values ('New', 'fast: cat', '\\x00ff') returning id) " +
			"insert into fleet.cabin (ship_id, number, deck) select id, g::text, 'C' from s, generate_series(1, 4) g",
		sf("update fleet.ship set id = default where id = (select id from fleet.ship order by id offset %d limit 1)", w.IntN(6)),
		"delete from fleet.ship where id = (select max(id) from fleet.ship) and name = 'New'",
		sf("update fleet.ship set tons = tons * 1.1, length = null where id %% 5 = %d", n%5),
		sf("update fleet.cabin set deck = case deck when 'A' then 'AA' else 'A' end, width = width + 0.10 where number = '%d:A'", 1+w.IntN(8)),
		sf("update fleet.cabin set number = number || '/', depth = %d where ship_id %% 7 = %d and length(number) < 12", n, n%7),
		sf("delete from fleet.kind where purpose = '%s'", []string{"fast: cat", "freight"}[n%2]),
		"insert into fleet.kind select p, 'again' from unnest(enum_range(null::fleet.purpose)) p on conflict (purpose) do update set color = ~kind.color",
		// Names that have to be quoted.
		sf(`update "Größe & Co"."Straße: Übersicht" set "Id" = gen_random_uuid(), "it's" = "it's" + 1 where "it's" %% 3 = %d and "Wert %%" like '%%%d'`, n%3, n%10),
		sf(`insert into "Größe & Co"."Straße: Übersicht" ("Wert %%") select 'neu ' || g from generate_series(1, 5) g`),
		sf(`delete from "Größe & Co"."Straße: Übersicht" where "Wert %%" = 'neu %d'`, 1+n%5),
		sf(`update "Größe & Co".%[1]s set %[1]s = -%[1]s, "select" = "select" || '%%' where v %% 9 = %[2]d and length("select") < 20`, long, n%9),
		sf(`insert into "Größe & Co".%[1]s values (%[2]d, 'ü', 1) on conflict ("select", %[1]s) do update set v = excluded.v + 1`, long, n%20),
		sf(`copy "Größe & Co".%s from stdin`+"\n%d\tcopied: %[2]d\t7\n", long, n),
		// The bank: one row of everything, then many at a time.
		sf("update bank.accounts set balance = balance + %d where aid = %d", n, account),
		sf("update bank.tellers set balance = balance + %d where tid = %d", n, 1+w.IntN(30)),
		sf("update bank.branches set balance = balance + %d where bid = %d", n, 1+w.IntN(3)),
		sf("insert into bank.history (tid, bid, aid, delta) values (%d, %d, %d, %d)", 1+w.IntN(30), 1+w.IntN(3), account, n),
		"copy bank.history (tid, bid, aid, delta) from stdin\n1\t1\t1\t-5\n2\t2\t2\t\\N\n",
		sf("update bank.accounts set aid = aid + 5000 where aid between %d and %d", account, account+10),
		sf("with gone as (delete from bank.accounts where aid between %d and %d returning *) insert into bank.accounts select aid - 5000, bid, balance, 'moved' from gone", 5000+account, 5020+account),
		sf("insert into bank.accounts values (%d, 1, 0, 'new') on conflict (aid) do update set filler = 'conflict', balance = -1", account),
	}
	if w.merges {
		list = append(list,
			sf(`merge into bank.accounts a using (select g as aid from generate_series(%[1]d, %[2]d) g) s on a.aid = s.aid
				when matched and a.balance > 100 then delete when matched then update set balance = balance + 60
				when not matched then insert values (s.aid, 2, 0, 'merged')`, account, account+15),
			sf(`merge into booking.ticket t using (select id, bought from booking.ticket where id between %d and %d) s on (t.id, t.bought) = (s.id, s.bought)
				when matched and t.state = 'void' then delete when matched then update set bought = t.bought + 31`, ticket, ticket+8),
			sf(`merge into fleet.cabin c using (select id, g::text as number from fleet.ship, generate_series(1, 2) g where id %% 4 = %d) s
				on (c.ship_id, c.number, c.deck) = (s.id, s.number, 'M') when matched then delete when not matched then insert (ship_id, number, deck) values (s.id, s.number, 'M')`, n%4))
	}
	// Seldom, for they empty what the others write to.
	if w.IntN(60) == 0 {
		return []string{"truncate bank.history", "truncate booking.luggage", "truncate bank.accounts_1", "truncate booking.ticket_02_low cascade"}[w.IntN(4)]
	}
	return list[w.IntN(len(list))]
}

// run runs a statement; what the others' writes make fail is counted, and true.
func (w *mixedWriter) run(ctx context.Context, sql string) (refused bool, err error) {
	if rows, ok := strings.CutPrefix(sql, "copy "); ok {
		command, data, _ := strings.Cut(rows, "\n")
		_, err = w.conn.PgConn().CopyFrom(ctx, strings.NewReader(data), "copy "+command)
	} else {
		_, err = w.conn.Exec(ctx, sql)
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && slices.Contains(expected, pgErr.Code) {
		w.failed[pgErr.Code]++
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", sql, err)
	}
	return false, nil
}

// transaction is some statements; savepoints are released and rolled back, and one
// transaction of six comes to nothing.
func (w *mixedWriter) transaction(ctx context.Context) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	for range 1 + w.IntN(5) {
		guarded := w.IntN(3) > 0
		if guarded {
			if _, err := w.conn.Exec(ctx, "savepoint s"); err != nil {
				return err
			}
		}
		refused, err := w.run(ctx, w.statement())
		if err != nil || refused && !guarded {
			return err
		}
		if guarded {
			end := "release s"
			if refused || w.IntN(4) == 0 {
				end = "rollback to s"
			}
			if _, err := w.conn.Exec(ctx, end); err != nil {
				return err
			}
		}
	}
	if w.IntN(6) == 0 {
		return nil
	}
	_, err = w.run(ctx, "commit")
	return err
}

func TestEveryTableOfASchemaIsInStepAfterMixedWrites(t *testing.T) {
	const writers, transactions = 4, 120
	e := newEnv(t)
	sinks := e.ferry()
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	e.start()
	e.start()

	var wg sync.WaitGroup
	// Writers deadlock with each other; that must not take a second each time.
	e.admin().exec(fmt.Sprintf("alter role %s in database %s set deadlock_timeout = '10ms'", one[string](e, "select current_user"), one[string](e, "select current_database()")))
	failed := make([]map[string]int, writers)
	for n := range writers {
		failed[n] = make(map[string]int)
		wg.Go(func() {
			conn, err := pgx.Connect(ctx, e.databaseURL)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			w := mixedWriter{Rand: rand.New(rand.NewPCG(seed, uint64(n))), conn: conn, merges: !e.older(15), failed: failed[n]}
			for range transactions {
				if err := w.transaction(ctx); err != nil {
					t.Errorf("writer %d: %v", n, err)
					return
				}
			}
		})
	}
	// A month that is sold ahead of time. Its lock can be in a deadlock with the writers.
	e.await("there is another partition", func() bool {
		_, err := e.db.Exec(ctx, "create table booking.ticket_2030 partition of booking.ticket for values from ('2030-01-01') to ('2030-02-01')")
		var pgErr *pgconn.PgError
		if err != nil && !(errors.As(err, &pgErr) && pgErr.Code == "40P01") {
			t.Fatal(err)
		}
		return err == nil
	})
	e.exec("insert into booking.ticket select 9000 + g, '2030-01-01', c.email, s.id, 1, 'held' from generate_series(1, 20) g, (select email from booking.customer limit 1) c, (select id from booking.sailing limit 1) s")
	wg.Wait()
	if t.Failed() {
		return
	}
	t.Logf("refused: %v; captured: %d", failed, one[int](e, "select sum(n_tup_ins) from pg_stat_user_tables where schemaname = 'freshet' and relname like 'changes%'"))

	e.settle()
	for _, s := range sinks {
		rows := one[int](e, "select count(*) from "+s.table)
		if rows == 0 && !strings.Contains(s.table, "history") && !strings.Contains(s.table, "luggage") {
			t.Errorf("nothing is left in %s", s.table)
		}
		e.inStep(s.pattern, s.promise)
	}
	binary(t)
	for _, s := range sinks {
		wg.Go(func() {
			stdout, stderr, status := e.freshet("verify", s.name)
			if line := lastLine(stdout); status != 0 || !strings.HasSuffix(line, " 0 stale, 0 missing, 0 orphaned") {
				t.Errorf("verify %s (%s): status %d, %q %s", s.name, s.table, status, line, stderr)
			}
		})
	}
	wg.Wait()
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
}
