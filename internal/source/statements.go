package source

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// statements builds the SQL of a reader. Aliases of its own begin with freshet_, so
// that a filter's names always mean the source's.
type statements struct {
	r       *Reader
	name    string // schema.table
	table   string // the same, as it is read from
	alias   string // the table's name: what a filter calls it
	changes string
	filter  string
}

func newStatements(r *Reader) statements {
	s := statements{
		r:       r,
		name:    pgx.Identifier{r.sink.Schema, r.sink.Table}.Sanitize(),
		alias:   pgx.Identifier{r.sink.Table}.Sanitize(),
		changes: fmt.Sprintf("freshet.changes_%d", r.sink.SourceID),
		filter:  "true",
	}
	s.table = s.name
	if !r.sink.Partitioned {
		// Rows of a table that inherits from it are not its own.
		s.table = "only " + s.name
	}
	if r.sink.Filter != "" {
		// The line breaks end a comment in the filter.
		s.filter = "((\n" + r.sink.Filter + "\n)) is true"
	}
	return s
}

// incarnation is freshet.incarnation(), empty for null, without the call where the session remembers what that has read from a file: the call alone
// takes longer than to look at both rows.
const incarnation = `coalesce(nullif(pg_catalog.current_setting('freshet.server', true), '') ||
   (select coalesce('-' || n.past, '') || '.' || i.value from freshet.installation n cross join freshet.incarnation i), freshet.incarnation(), '')`

// meta is what every read says about itself, as one text: the snapshot of the
// statement, the incarnation, how far the WAL is written and flushed (in this order:
// a commit that the snapshot sees lies before the insert position), the clock. It is
// computed before anything is read, for reading writes WAL too (it prunes pages).
const meta = `pg_catalog.pg_current_snapshot()::text || '|' || ` + incarnation + `
 || '|' || pg_catalog.pg_current_wal_insert_lsn() || '|' || pg_catalog.pg_current_wal_flush_lsn()
 || '|' || pg_catalog.statement_timestamp()`

// meta is the expression for this sink. It fails if what is read could be something else than
// the source as it is known: another table of that name, a partition that is not on record, less
// than all rows where policies apply. In the same statement, which has everything locked that it
// reads: while it does, none of it can get another name, be dropped or have other policies.
func (s statements) meta() string {
	name := strings.ReplaceAll(s.name, "'", "''")
	checked := fmt.Sprintf("%s || case when pg_catalog.to_regclass('%s')::oid = %d then '' else freshet.refuse_name('%s') end",
		meta, name, s.r.sink.Relation, name)
	if s.r.sink.Partitioned {
		checked += fmt.Sprintf(" || freshet.check_partitions(%d)", s.r.sink.SourceID)
	}
	if s.r.sink.RowSecurity {
		for _, relation := range append([]uint32{s.r.sink.Relation}, s.r.sink.Reads...) {
			checked += fmt.Sprintf(" || freshet.check_visible(%d::oid)", relation)
		}
	}
	return checked
}

func (s statements) quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// keys lists the key columns of alias as the key parts read them.
func (s statements) keys(alias string) []string {
	list := make([]string, len(s.r.parts))
	for i, p := range s.r.parts {
		list[i] = p.Select(alias)
	}
	return list
}

// changeKeys lists the key columns of a change-table alias likewise.
func (s statements) changeKeys(alias string) []string {
	list := make([]string, len(s.r.changeParts))
	for i, p := range s.r.changeParts {
		list[i] = p.Select(alias)
	}
	return list
}

// each joins f of every key column.
func (s statements) each(sep string, f func(i int) string) string {
	list := make([]string, len(s.r.sink.KeyColumns))
	for i := range list {
		list[i] = f(i)
	}
	return strings.Join(list, sep)
}

func (s statements) changeColumn(i int) string { return s.r.sink.KeyColumns[i].Change }

// term is how a key column is compared and ordered, given an expression for it.
func (s statements) term(i int, expression string) string {
	switch k := s.r.sink.KeyColumns[i]; {
	case k.Folded:
		return lower(expression)
	case k.Kind == 'e' && !k.Exact:
		// A domain over an enum is compared as that.
		return expression + "::" + k.SQLType
	}
	return expression
}

// bytes is what a key column renders to, given an expression for it, in a form that is
// equal only where every byte is: its own collation may take different texts for equal.
func (s statements) bytes(i int, expression string) string {
	if s.r.sink.KeyColumns[i].Lower {
		return lower(expression) + ` collate pg_catalog."C"`
	}
	return expression + `::pg_catalog.text collate pg_catalog."C"`
}

// termType is the type of a key column's term.
func (s statements) termType(i int) string {
	if s.r.sink.KeyColumns[i].Folded {
		return "pg_catalog.text"
	}
	return s.r.sink.KeyColumns[i].SQLType
}

func (s statements) nulls(n int) string { return strings.Repeat(", null", n) }

// same compares the row of the source with a tuple of terms: equal in SQL, and equal as
// rendered where that says more.
func (s statements) same(alias string, column func(i int) string) string {
	return s.each(" and ", func(i int) string {
		k := s.r.sink.KeyColumns[i]
		own, other := s.term(i, s.alias+"."+s.quoted(k.Name)), alias+"."+column(i)
		if k.Exact {
			return own + " = " + other
		}
		return own + " = " + other + " and " + s.bytes(i, own) + " = " + s.bytes(i, other)
	})
}

// value lists what an entry is made of, in terms of the row of the source or of the rows of a
// group: what the shape reads, and the moment at which the entry expires.
func (s statements) value() []string {
	list := s.r.shape.Select(s.alias)
	if s.r.sink.ExpiresAt != "" {
		list = append(list, "((\n"+s.r.sink.ExpiresAt+"\n))::pg_catalog.timestamptz")
	}
	return list
}

// looked is what the rows of each tuple in freshet_k make that pass the filter: one row, or
// those of a group. OFFSET 0 keeps the subquery whole: an index lookup for each tuple, never
// a join that reads the table.
func (s statements) looked(column func(i int) string) string {
	having := ""
	if s.r.sink.Grouped {
		// No value is made of no rows, which could raise an error.
		having = " having count(*) > 0"
	}
	return fmt.Sprintf(`left join lateral (select true as freshet_present%s from %s as %s where %s and %s%s offset 0) as freshet_t on true`,
		prefixed(numbered(s.value())), s.table, s.alias, s.same("freshet_k", column), s.filter, having)
}

func numbered(expressions []string) []string {
	list := make([]string, len(expressions))
	for i, e := range expressions {
		list[i] = fmt.Sprintf("%s as freshet_v%d", e, i)
	}
	return list
}

func valueNames(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("freshet_t.freshet_v%d", i)
	}
	return list
}

func prefixed(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ", " + strings.Join(list, ", ")
}

// own is a key column of the source's row.
func (s statements) own(i int) string {
	return s.alias + "." + s.quoted(s.r.sink.KeyColumns[i].Name)
}

// order lists the terms of the order columns.
func (s statements) order(column func(i int) string) string {
	return s.listOrder(func(p int) string { return s.term(p, column(p)) })
}

// listOrder lists f of every order column.
func (s statements) listOrder(f func(p int) string) string {
	list := make([]string, len(s.r.sink.Order))
	for i, p := range s.r.sink.Order {
		list[i] = f(p)
	}
	return strings.Join(list, ", ")
}

// notNull keeps rows out whose order columns are null: they have no entry, and no tuple
// to go on after.
func (s statements) notNull(column func(i int) string) string {
	list := make([]string, len(s.r.sink.Order))
	for i, p := range s.r.sink.Order {
		list[i] = column(p) + " is not null"
	}
	return strings.Join(list, " and ")
}

// bounds are the elements of the text[] parameter as a tuple of the order columns' types.
func (s statements) bounds(param string) string {
	list := make([]string, len(s.r.sink.Order))
	for i, p := range s.r.sink.Order {
		list[i] = fmt.Sprintf("(%s::text[])[%d]::%s", param, i+1, s.termType(p))
	}
	return strings.Join(list, ", ")
}

// since are the tuples in ($2, $3] of the rows of after, which is freshet_b.
func (s statements) since() string {
	column := func(i int) string { return "c." + s.changeColumn(i) }
	return fmt.Sprintf(`select %s from (%s) as c
where %s and ($2::text[] is null or (%s) > (%s)) and ($3::text[] is null or (%s) <= (%s))`,
		strings.Join(s.changeKeys("c"), ", "), s.tuples("freshet_b c", "true"),
		s.each(" and ", func(i int) string { return column(i) + " is not null" }),
		s.order(column), s.bounds("$2"), s.order(column), s.bounds("$3"))
}

// after are the rows of the change table from transactions that snapshot $1 does not see.
func (s statements) after() string {
	return fmt.Sprintf("select c.op, c.tuples, %s from freshet.window_ranges($1::pg_snapshot, pg_catalog.pg_current_snapshot()) as r "+
		"cross join lateral (select * from %s c where c.xid >= r.lo and c.xid <= r.hi offset 0) as c",
		s.changed("c"), s.changes)
}

// touched lists the tuples in ($2, $3] that transactions touched which snapshot $1
// does not see.
func (s statements) touched() string {
	return fmt.Sprintf("with freshet_b as materialized (%s)\n%s", s.after(), s.since())
}

// untouched says whether there is none of those and no truncation, the floor of the change
// table and the incarnation.
func (s statements) untouched() string {
	return fmt.Sprintf(`with freshet_b as materialized (%s)
select (not exists (%s) and not exists (select from freshet_b c where c.op = 't'))::text || '|' || (select s.floor from freshet.source s where s.id = %d)
 || '|' || %s`, s.after(), s.since(), s.r.sink.SourceID, incarnation)
}

// absent lists, after meta, by their numbers from 1, the tuples without a row that passes the filter; the
// parameters are those of lookup. It is far cheaper than that.
func (s statements) absent() string {
	column := func(i int) string { return fmt.Sprintf("k%d", i) }
	return fmt.Sprintf(`select %s as meta, null::bigint
union all
select null, freshet_k.freshet_n from (%s) as freshet_k
where not exists (select from %s as %s where %s and %s offset 0)`,
		s.meta(), s.given(column, ", u.n as freshet_n"), s.table, s.alias, s.same("freshet_k", column), s.filter)
}

// lookup reads the rows of given tuples: one text[] parameter for each key column.
// Tuples whose text is not what their type would print have no row.
func (s statements) lookup() string {
	n, width := len(s.r.parts), len(s.value())
	column := func(i int) string { return fmt.Sprintf("k%d", i) }
	return fmt.Sprintf(`select %[1]s as meta, null::boolean%[2]s
union all
select null, freshet_t.freshet_present%[3]s%[4]s
from (%[5]s) as freshet_k %[6]s`,
		s.meta(), s.nulls(n+width),
		prefixed(s.lookupKeys()), prefixed(valueNames(width)), s.given(column, ""), s.looked(column))
}

// given are the tuples of the parameters, one text[] for each key column, as terms; and more
// of what u has.
func (s statements) given(column func(i int) string, more string) string {
	return fmt.Sprintf("select %s%s from rows from (%s) with ordinality as u (%s, n) offset 0",
		s.each(", ", func(i int) string {
			k := s.r.sink.KeyColumns[i]
			text := "u." + column(i)
			if k.Foreign && !k.Folded {
				// Whatever the type does not print itself is no row's key, and must not be an error.
				text = fmt.Sprintf("freshet.canonical(%s, '%s')", text, strings.ReplaceAll(k.SQLType, "'", "''"))
			}
			return fmt.Sprintf("%s::%s as %s", text, s.termType(i), column(i))
		}), more,
		s.each(", ", func(i int) string { return fmt.Sprintf("pg_catalog.unnest($%d::text[])", i+1) }),
		s.each(", ", column))
}

func (s statements) lookupKeys() []string {
	list := make([]string, len(s.r.sink.KeyColumns))
	for i, part := range s.r.lookupParts() {
		list[i] = part.Select("freshet_k")
	}
	return list
}
