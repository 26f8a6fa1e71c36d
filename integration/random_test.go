package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// draws is a source of sinks, statements and what the entries have to be, all from one seed.
type draws struct {
	*rand.Rand
}

func (d draws) of(list ...string) string { return list[d.IntN(len(list))] }

// some draws some of a list, in its order.
func (d draws) some(list ...string) []string {
	var kept []string
	for _, e := range list {
		if d.IntN(2) == 0 {
			kept = append(kept, e)
		}
	}
	return kept
}

const thingsColumns = `id bigint not null, a int, b text, n numeric, flag boolean, doc jsonb, at timestamptz`

// things makes a source: plain or partitioned, and with an index for each key that rows share.
func (d draws) things() []string {
	create := []string{"create table things (" + thingsColumns + ", primary key (id))"}
	if d.IntN(3) == 0 {
		create = []string{
			"create table things (" + thingsColumns + ", primary key (id)) partition by range (id)",
			"create table things_1 partition of things for values from (minvalue) to (300)",
			"create table things_2 partition of things for values from (300) to (100000)",
			"create table things_3 partition of things default",
		}
	}
	return append(create, "create index on things (a)", "create index on things (b, a)", "create index on things (n)", "create index on things (flag, id)")
}

// row is the values of a row but its id, small enough a choice for rows to meet.
func (d draws) row() string {
	return strings.Join([]string{
		d.of("null", "1", "2", "3", "4", "-5"),
		d.of("null", "'x'", "'X'", "'a:b'", "'é %'", "'long ' || repeat('z', 50)"),
		d.of("null", "1", "1.0", "1.00", "0", "2.5", "'NaN'"),
		d.of("null", "true", "false"),
		d.of("null", `'{"k": 1.10, "l": [null]}'`, `'"text"'`, `'[]'`),
		d.of("null", "'2026-01-02 03:04:05.678+00'", "'2090-01-01'", "'infinity'"),
	}, ", ")
}

// drawn is a sink as it was drawn, and what its entries are.
type drawn struct {
	name, arguments, promise string
	// reset are the arguments that it does not give.
	reset []string
}

// sink draws the definition of a sink: arguments for create_sink or alter_sink.
func (d draws) sink(name string, shards bool) drawn {
	var (
		args   []string
		where  = []string{"true"}
		moment = "null::timestamptz"
	)
	say := func(argument, value string) {
		args = append(args, argument+" => "+value)
	}
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	prefix := name + ":"
	reset := []string{"columns", "value", "transform", "filter", "expires", "expires_at"}
	given := func(argument string) { reset = slices.DeleteFunc(reset, func(r string) bool { return r == argument }) }

	keyOf := map[string]string{
		"${a}": "a", "${b}": "b", "${b|url}": "b", "${b|lower}": "lower(b)", "${n}": "n::text", "${flag}": "flag", "${id}": "id",
	}
	// What percent-encoding makes of the few texts there are.
	keyOf["${b|url}"] = "replace(replace(replace(replace(replace(b, '%', '%25'), ' ', '%20'), ':', '%3A'), 'é', '%C3%A9'), 'É', '%C3%89')"
	var key, group, value string
	switch d.IntN(2) {
	case 0: // an entry for each row
		parts := append([]string{"${id}"}, d.some("${a}", "${b|url}", "${flag}")...)
		d.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		key = strings.Join(parts, ":")
		switch d.IntN(4) {
		case 3:
			say("transform", quote(`record.flag == true ? omit(record, "doc") : record.b`))
			given("transform")
			value = "case when flag then (to_jsonb(things) - 'doc')::text else b end"
		case 0:
			columns := append([]string{"id"}, d.some("a", "b", "n", "flag", "doc", "at")...)
			say("columns", quote("{"+strings.Join(columns, ",")+"}"))
			given("columns")
			pairs := make([]string, len(columns))
			for i, c := range columns {
				pairs[i] = quote(c) + ", " + c
			}
			value = "jsonb_build_object(" + strings.Join(pairs, ", ") + ")::text"
		case 1:
			if d.IntN(2) == 0 {
				say("columns", "'{*}'")
				given("columns")
			}
			value = "to_jsonb(things)::text"
		default:
			expression := d.of("b", "n + a", "doc -> 'k'", "format('%s/%s', a, n)", "case when flag then to_jsonb(things) end", "convert_to(b, 'UTF8')")
			say("value", quote(expression))
			given("value")
			value = "(" + expression + ")::text"
			if strings.HasPrefix(expression, "convert_to") {
				value = "b"
			}
		}
	default: // an entry for each group
		key = d.of("${a}", "${b|url}:${a}", "${n}", "${flag}")
		for part := range strings.SplitSeq(key, ":") {
			group += ", " + keyOf[part]
		}
		// n groups by its text as well: 1.0 and 1.00 are equal.
		group = strings.TrimPrefix(strings.ReplaceAll(group, "n::text", "n::text, n"), ", ")
		expression := d.of("count(*)", "jsonb_agg(to_jsonb(things) order by id)", "sum(n)", "string_agg(b, ',' order by id)",
			"(array_agg(doc order by id desc))[1]", "case when count(*) > 2 then max(id) end")
		say("value", quote(expression))
		given("value")
		value = "(" + expression + ")::text"
	}
	say("key", quote(prefix+key))
	if d.IntN(2) == 0 {
		filter := d.of("flag", "a > 1", "n <> 1", "id % 3 <> 0", "not flag or b is null", "coalesce(a, 0) < 4 -- of course")
		say("filter", quote(filter))
		given("filter")
		where = append(where, "("+filter+"\n)")
	}
	expiry := ""
	switch d.IntN(4) {
	case 0:
		say("expires", "'1 hour'")
		given("expires")
	case 1:
		given("expires_at")
		if moment = "at"; group != "" {
			moment = "max(at)"
		}
		say("expires_at", quote(moment))
		expiry = " and (expiry is null or expiry > now())"
	}
	if shards {
		say("shards", fmt.Sprint(1+d.IntN(3)))
	}

	rendered := quote(prefix)
	for i, part := range strings.Split(key, ":") {
		if i > 0 {
			rendered += " || ':'"
		}
		rendered += " || " + keyOf[part]
		column, _, _ := strings.Cut(strings.Trim(part, "${}"), "|")
		where = append(where, column+" is not null")
	}
	if group != "" {
		group = " group by " + group
	}
	promise := fmt.Sprintf("select key, value from (select %s as key, %s as value, %s as expiry from things where %s%s) e where value is not null%s",
		rendered, value, moment, strings.Join(where, " and "), group, expiry)
	return drawn{name, strings.Join(args, ", "), promise, reset}
}

// statement draws something that an application does. A quiet one asks for no sweep.
func (d draws) statement(quiet bool) string {
	id := func() int { return 1 + d.IntN(400) }
	some := func() string {
		return d.of(fmt.Sprintf("id = %d", id()), fmt.Sprintf("id between %d and %d", id(), id()), "a = 2", "flag", "n = 1", fmt.Sprintf("id %% 20 = %d", d.IntN(20)))
	}
	switch d.IntN(12) {
	case 0, 1, 2:
		return fmt.Sprintf("insert into things values (%d, %s) on conflict do nothing", id(), d.row())
	case 3:
		return fmt.Sprintf("insert into things select (row(g, %s)::things).* from generate_series(%d, %d) g on conflict (id) do update set a = excluded.a, b = excluded.b", d.row(), id(), id())
	case 4, 5, 6:
		return fmt.Sprintf("update things set (a, b, n, flag, doc, at) = (%s) where %s", d.row(), some())
	case 7, 8:
		return fmt.Sprintf("update things set %s where %s", d.of("a = a + 1", "n = n * 1.0", "n = 1.00", "b = upper(b)", "flag = not flag", "a = null", "at = null"), some())
	case 9:
		return fmt.Sprintf("update things set id = id + 1000 where id = %d", id())
	case 10:
		return "delete from things where " + some()
	default:
		if d.IntN(6) == 0 && !quiet {
			return "truncate things"
		}
		return fmt.Sprintf("delete from things where id > %d", 300+id())
	}
}

// Whatever the sinks are and whatever is done to the table and to them, the entries are what
// plain SQL says.
func TestEntriesAreWhatPlainSQLSays(t *testing.T) {
	t.Parallel()
	seeds := 4
	if os.Getenv("FRESHET_TEST_EXHAUSTIVE") != "" {
		seeds = 60
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			e := newEnv(t)
			e.inRangesOf(100)
			d := draws{rand.New(rand.NewPCG(uint64(seed), 6))}
			for _, sql := range d.things() {
				e.exec(sql)
			}
			fill := func() {
				for id := 1; id <= 200; id++ {
					e.exec(fmt.Sprintf("insert into things values (%d, %s) on conflict do nothing", id, d.row()))
				}
			}
			fill()
			sinks := make([]drawn, 6)
			for i := range sinks {
				sinks[i] = d.sink(fmt.Sprintf("s%d", i), true)
				e.exec(fmt.Sprintf("select freshet.create_sink('%s', 'things', %s)", sinks[i].name, sinks[i].arguments))
				t.Logf("%s: %s", sinks[i].name, sinks[i].arguments)
			}
			e.start()
			still := func() {
				e.settle()
				for _, s := range sinks {
					e.changed(s.name)
				}
				e.gone("s%")
				e.settle()
			}
			var log []string
			for round := range 4 {
				log = log[:0]
				// A sweep removes whatever is too much, and so hides who has left it there: every
				// other round is without.
				quiet := round%2 == 1
				if quiet {
					fill()
					still()
				}
				for range 40 {
					var run []string
					for range 1 + d.IntN(4) {
						run = append(run, d.statement(quiet))
					}
					switch d.IntN(6) {
					case 0:
						run = append(run, "savepoint s", d.statement(quiet), "rollback to s", d.statement(quiet))
					case 1:
						run = append(run, "rollback")
					}
					log = append(log, run...)
					if run[len(run)-1] == "rollback" {
						tx := e.begin()
						e.in(tx, run[:len(run)-1]...)
						_ = tx.Rollback(t.Context())
						continue
					}
					e.transaction(run...)
				}
				still()
				for _, s := range sinks {
					if diff := e.difference(s.name+":*", s.promise); len(diff) > 0 {
						t.Fatalf("round %d, %s (%s): %d entries differ from %s:\n%s\n\n%s", round, s.name, s.arguments, len(diff), s.promise,
							strings.Join(diff[:min(len(diff), 10)], "\n"), strings.Join(log, ";\n"))
					}
				}
				// One of them becomes something else.
				i := d.IntN(len(sinks))
				next := d.sink(sinks[i].name, false)
				e.exec(fmt.Sprintf("select freshet.alter_sink('%s', %s, reset => $1)", next.name, next.arguments), next.reset)
				t.Logf("%s: %s", next.name, next.arguments)
				sinks[i] = next
			}
		})
	}
}
