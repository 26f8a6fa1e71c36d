package source

import (
	"fmt"
	"slices"
	"strings"
)

// rows is a statement that lists rows of the source: after meta and present come the
// columns of the key and of the value.
type rows struct {
	sql string
	// keys are the places of the key columns; those of the value begin at value.
	keys  []int
	value int
}

// rows has the key columns first.
func (s statements) rows() rows {
	r := rows{value: 2 + len(s.r.parts)}
	for i := range s.r.parts {
		r.keys = append(r.keys, 2+i)
	}
	return r
}

// bounded is which bounds a chunk has. Including: the tuple that it goes on after is part of it. Listed: it has only
// rows of a list of tuples, which is the next parameter.
type bounded struct {
	after, until, including, listed bool
}

// chunk reads rows in key order: $1 the limit, then the tuple to go on after and the one to
// end with, if there are. Rows that a filter rejects come too, as not present: the limit
// is on rows read. A bare one has neither filters nor values.
//
// Each combination of bounds is a statement of its own, for its plan to seek by them.
func (s statements) chunk(has bounded, bare bool) rows {
	where, param, after := []string{s.notNull(s.own)}, 1, ">"
	if has.including {
		after = ">="
	}
	for _, bound := range []struct {
		is       bool
		operator string
	}{{has.after, after}, {has.until, "<="}} {
		if bound.is {
			param++
			where = append(where, fmt.Sprintf("(%s) %s (%s)", s.order(s.own), bound.operator, s.bounds(fmt.Sprintf("$%d", param))))
		}
	}
	if has.listed {
		param++
		where = append(where, fmt.Sprintf("%s = any ($%d::%s[])", s.own(0), param, s.termType(0)))
	}
	from, condition := fmt.Sprintf("%s as %s", s.table, s.alias), strings.Join(where, " and ")
	if s.r.sink.Grouped {
		condition += " and " + s.allNotNull()
		from = fmt.Sprintf("%s where %s order by %s fetch first ($1::bigint) rows with ties", from, condition, s.order(s.own))
		return s.groups(from, s.last(s.inGroup, fmt.Sprintf("(select distinct %s from %s) as freshet_k", s.distinct(s.own), from)), bare)
	}

	meta := s.meta()
	if !has.including && !has.listed {
		meta += s.last(s.own, from+" where "+condition)
	}
	list := s.rows()
	present, columns, filters := "null::boolean", s.keys(s.alias), s.filters()
	switch {
	case bare:
	case len(filters) == 0:
		// A key column that is sent with the value is not sent twice.
		present = "true"
		values := s.value()
		var others []string
		for _, c := range columns {
			if !slices.Contains(values, c) {
				others = append(others, c)
			}
		}
		sent := slices.Concat(others, values)
		for i, c := range columns {
			list.keys[i] = 2 + slices.Index(sent, c)
		}
		columns, list.value = sent, 2+len(others)
	default:
		// What is not selected is not sent either.
		values := s.value()
		from += fmt.Sprintf(" left join lateral (select true as freshet_present%s where %s offset 0) as freshet_t on true",
			prefixed(numbered(values)), strings.Join(filters, " and "))
		present, columns = "freshet_t.freshet_present", append(columns, valueNames(len(values))...)
	}
	list.sql = fmt.Sprintf("select %s as meta, null::boolean%s\nunion all\n(select null, %s%s from %s where %s order by %s limit $1::bigint)",
		meta, s.nulls(len(columns)), present, prefixed(columns), from, condition, s.order(s.own))
	return list
}

// last is the tuple with which a chunk ends that has its limit of rows, $1, to follow meta: for
// an intent to have bounds before the first row is written. Nothing if there are fewer rows.
// It reads the index alone, where that has all order columns.
func (s statements) last(column func(i int) string, from string) string {
	name := func(p int) string { return fmt.Sprintf("freshet_o%d", p) }
	// In two steps, for only the one to be made text.
	return fmt.Sprintf("\n || '|' || coalesce((select array[%s]::pg_catalog.text from (select %s from %s order by %s offset $1::bigint - 1 limit 1) as freshet_l), '')",
		s.listOrder(func(p int) string { return "freshet_l." + name(p) + "::pg_catalog.text" }),
		s.listOrder(func(p int) string { return s.term(p, column(p)) + " as " + name(p) }), from, s.order(column))
}

// groups lists each tuple of key columns once, with what its rows make; after follows meta.
func (s statements) groups(from, after string, bare bool) rows {
	list := s.rows()
	present, values, looked := "freshet_t.freshet_present", valueNames(len(s.value())), s.looked(s.changeColumn)
	switch {
	case bare:
		present, values, looked = "null::boolean", nil, ""
	case s.r.only != "":
		// It selects tuples, and never rows of a group.
		present = fmt.Sprintf("freshet_t.freshet_present and exists (select from %s as %s where %s and ((\n%s\n)) is true offset 0)",
			s.table, s.alias, s.same("freshet_k", s.changeColumn), s.r.only)
	}
	keys := make([]string, len(s.r.groupParts))
	for i, p := range s.r.groupParts {
		keys[i] = p.Select("freshet_k")
	}
	list.sql = fmt.Sprintf("select %s as meta, null::boolean%s\nunion all\n(select null, %s%s%s from (select distinct %s from %s) as freshet_k %s order by %s)",
		s.meta()+after, s.nulls(len(keys)+len(values)), present, prefixed(keys), prefixed(values), s.distinct(s.own), from, looked,
		s.order(s.inGroup))
	return list
}

// inGroup is a key column of the tuples that [statements.groups] lists.
func (s statements) inGroup(i int) string { return "freshet_k." + s.changeColumn(i) }

// allNotNull keeps rows out that have no key.
func (s statements) allNotNull() string {
	return s.each(" and ", func(i int) string { return s.own(i) + " is not null" })
}

// filters are the conditions that a row's entry depends on, and which rows a backfill is for.
func (s statements) filters() []string {
	var list []string
	if s.r.only != "" {
		list = append(list, "((\n"+s.r.only+"\n)) is true")
	}
	if s.r.sink.Filter != "" {
		list = append(list, s.filter)
	}
	return list
}

// sample reads about $1 percent of the rows, at most $2, or the groups that they are of.
func (s statements) sample(bare bool) rows {
	from := fmt.Sprintf("%s as %s tablesample bernoulli ($1::float8)", s.table, s.alias)
	if s.r.sink.Grouped {
		return s.groups(fmt.Sprintf("%s where %s limit $2::bigint", from, s.allNotNull()), "", bare)
	}
	filter, values := s.filter, s.value()
	if bare {
		filter, values = "null::boolean", nil
	}
	list := s.rows()
	list.sql = fmt.Sprintf(`select %s as meta, null::boolean%s
union all
(select null, %s%s%s from %s limit $2::bigint)`,
		s.meta(), s.nulls(len(s.r.parts)+len(values)), filter, prefixed(s.keys(s.alias)), prefixed(values), from)
	return list
}
