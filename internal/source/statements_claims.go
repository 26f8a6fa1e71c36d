package source

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// claim reads a batch: $1 the snapshot that is done, $2 the window or null, $3 and $4
// the place inside it, $5 how many rows of the change table at most, each of which may have
// several tuples, $6 about how many tuples. The first row is meta with the window, the
// number of tuples, the last row's place, how many truncates and how many touches of
// Freshet's own are among them, what ending says, how many rows they were, and whether nothing
// is left of the window. A bare one only lists the tuples.
func (s statements) claim(bare bool) string {
	n, width := len(s.r.parts), len(s.value())
	present, looked := "freshet_t.freshet_present", s.looked(s.changeColumn)
	if bare {
		width, present, looked = 0, "null", ""
	}
	return fmt.Sprintf(`with freshet_w as materialized (%[2]s), freshet_b as materialized (
  select c.*, coalesce(sum(coalesce(c.tuples, 1)) over (order by c.xid, c.id rows between unbounded preceding and 1 preceding), 0) < $6::bigint as freshet_fits
  from (%[1]s) as c
), freshet_k as (
  select distinct on (%[9]s) %[3]s from (%[13]s) as c where %[4]s%[10]s order by %[9]s
)
select freshet_w.win::text || '|' || freshet_a.n
   || '|' || coalesce((select c.xid || '|' || c.id from freshet_b c where c.freshet_fits order by c.xid desc, c.id desc limit 1), '0|0')
   || '|' || freshet_a.truncates || '|' || freshet_a.touches
   || '|' || %[12]s
   || '|' || freshet_a.fit || '|' || (freshet_a.read < $5::bigint and freshet_a.fit = freshet_a.read)::text
   || '|' || freshet_w.meta as meta, null::boolean%[5]s
from freshet_w cross join (
  select count(*) as read, count(*) filter (where c.freshet_fits) as fit, coalesce(sum(coalesce(c.tuples, 1)) filter (where c.freshet_fits), 0) as n,
    count(*) filter (where c.op = 't' and c.freshet_fits) as truncates, count(*) filter (where c.op = 'r' and c.freshet_fits) as touches
  from freshet_b c) as freshet_a
union all
select null, %[11]s%[6]s%[7]s
from freshet_k %[8]s`,
		s.pending(), s.window(), s.distinct(s.changeColumn),
		s.each(" and ", func(i int) string { return s.changeColumn(i) + " is not null" }),
		s.nulls(n+width),
		prefixed(s.changeKeys("freshet_k")), prefixed(valueNames(width)), looked,
		s.ordered(), s.ours(), present, s.ending(), s.tuples("freshet_b c", "c.freshet_fits"))
}

// window is the window of a claim, as win, with meta.
func (s statements) window() string {
	return fmt.Sprintf("select coalesce($2::pg_snapshot, pg_catalog.pg_current_snapshot()) as win, %s as meta", s.meta())
}

// pending are the first $5 rows of the change table in the window of freshet_w, after the place in it.
func (s statements) pending() string {
	return fmt.Sprintf(`
    select c.xid, c.id, c.op, c.tuples, %s
    from freshet_w
    cross join lateral freshet.window_ranges($1::pg_snapshot, freshet_w.win) as r
    cross join lateral (%s) as c
    order by c.xid, c.id limit $5::bigint`, s.changed("c"), s.ranged())
}

// unsorted are those rows range by range, each in order: it ends soon after the first ranges that have enough, instead of reading as many
// of each, and begins to send at once. The ranges come in order from a function that cannot run in parallel, and each is looked up for
// itself, in that order, for there is no other way to join what has a limit of its own. That it was so shows in what comes: after the rows
// of each range comes its end, with no op. What comes once $5 rows have come is of no use: the range before may have been cut there.
func (s statements) unsorted() string {
	return fmt.Sprintf(`
    select c.xid, c.id, c.op, c.tuples, %[1]s
    from freshet_w
    cross join lateral freshet.window_ranges($1::pg_snapshot, freshet_w.win) as r
    cross join lateral ((%[2]s) union all select r.hi, null, null, null%[3]s) as c
    limit $5::bigint + (select count(*) from freshet_w cross join lateral freshet.window_ranges($1::pg_snapshot, freshet_w.win))`,
		s.changed("c"), s.ranged(), s.nulls(s.changedColumns()))
}

// ranged are the first $5 rows of the range r. It has one lower bound, made of its own and of the place: given two, Postgres begins to
// read the index at either, and filters out what lies between.
func (s statements) ranged() string {
	return fmt.Sprintf(`
      select c.xid, c.id, c.op, c.tuples, %s from %s c
      where (c.xid, c.id) > (greatest(r.lo, $3::xid8), case when r.lo > $3::xid8 then 0 else $4::bigint end) and c.xid <= r.hi
      order by c.xid, c.id limit $5::bigint
    `, s.changed("c"), s.changes)
}

// raw lists the unsorted rows: its first row is the window with meta, its last what ending says.
func (s statements) raw() string {
	nothing := `, null::xid8, null::bigint, null::"char", null::smallint` + s.nulls(s.changedColumns())
	return fmt.Sprintf(`with freshet_w as materialized (%[1]s)
select freshet_w.win::text || '|' || freshet_w.meta%[2]s from freshet_w
union all
(select null, c.* from (%[3]s) as c)
union all
select %[4]s%[2]s`, s.window(), nothing, s.unsorted(), s.ending())
}

// ending says how far the WAL is flushed by now, which mostly is as far as it was written at the beginning, and the floor
// of the change table: asked for in the statement that reads that, for only so does it hold off whoever empties a segment.
func (s statements) ending() string {
	return fmt.Sprintf("pg_catalog.pg_current_wal_flush_lsn() || '|' || (select s.floor from freshet.source s where s.id = %d)", s.r.sink.SourceID)
}

// few reads a few changes, $2 of them at most, of what has come after the snapshot $1: its first row is meta, its last how far
// the WAL is flushed by now and the floor of the change table, as in claim; between them are each change's op and number,
// whether it has several tuples, which it then does not read, and those that it has. It sorts nothing and counts nothing, and
// so takes Postgres half the time to make ready: all of it is read, or it was in vain. The order is there for the index to be
// walked, and not first read to the end.
func (s statements) few() string {
	n, width := len(s.r.parts), len(s.value())
	columns := func(f func(i int) string) string { return "(" + s.each(", ", f) + ")" }
	return fmt.Sprintf(`select %[1]s as meta, null::"char", null::bigint, null::boolean, null::boolean%[2]s
union all
select null, c.op, c.id, c.tuples is not null, freshet_t.freshet_present%[3]s%[4]s
from (
  select c.* from freshet.window_ranges($1::pg_snapshot, pg_catalog.pg_current_snapshot()) as r
  cross join lateral (
    select c.id, c.op, c.tuples, %[5]s from %[6]s c where c.xid >= r.lo and c.xid <= r.hi order by c.xid, c.id limit $2::bigint
  ) as c
  limit $2::bigint
) as c
left join lateral (
  select %[7]s from (values %[8]s, %[9]s) as c %[10]s where %[11]s%[12]s
) as freshet_k on true
%[13]s
union all
select %[14]s, null, null, null, null%[2]s`,
		s.meta(), s.nulls(n+width), prefixed(s.changeKeys("freshet_k")), prefixed(valueNames(width)),
		s.changed("c"), s.changes, s.distinct(s.changeColumn),
		columns(func(i int) string { return "c." + s.changeColumn(i) }),
		columns(func(i int) string { return "c." + s.r.sink.KeyColumns[i].Old() }),
		columns(s.changeColumn),
		s.each(" and ", func(i int) string { return s.changeColumn(i) + " is not null" }), s.ours(),
		s.looked(s.changeColumn), s.ending())
}

// listed: the change table may have several tuples in one row, as lists of their columns.
func (s statements) listed() bool {
	for _, k := range s.r.sink.KeyColumns {
		if !k.Listed {
			return false
		}
	}
	return true
}

// changed are the columns of an alias of the change table that have tuples: of a row, what it was
// before, and lists of many.
func (s statements) changed(alias string) string {
	column := func(name string) string { return alias + "." + name }
	columns := s.each(", ", func(i int) string { return column(s.changeColumn(i)) + ", " + column(s.r.sink.KeyColumns[i].Old()) })
	if s.listed() {
		columns += s.each("", func(i int) string { return ", " + column(s.r.sink.KeyColumns[i].List()) })
	}
	return columns
}

// changedColumns is how many those are.
func (s statements) changedColumns() int {
	columns := 2 * len(s.r.sink.KeyColumns)
	if s.listed() {
		columns += len(s.r.sink.KeyColumns)
	}
	return columns
}

// tuples is a query for the tuples of those rows of `from`, whose alias is c, that fulfil a
// condition: under the names of the change table, one by one, whether they have a row each, or share
// it, or one is what the other was before.
func (s statements) tuples(from, condition string) string {
	one := fmt.Sprintf("select %s from %s where c.op <> 't' and %s",
		s.each(", ", func(i int) string { return "c." + s.changeColumn(i) }), from, condition)
	old := func(i int) string { return "c." + s.r.sink.KeyColumns[i].Old() }
	before := fmt.Sprintf(" union all select %s from %s where %s and %s",
		s.each(", ", old), from, s.each(" and ", func(i int) string { return old(i) + " is not null" }), condition)
	if !s.listed() {
		return one + before
	}
	return fmt.Sprintf("%s and c.tuples is null%s union all select %s from %s where c.tuples is not null and %s",
		one, before, s.each(", ", func(i int) string { return "pg_catalog.unnest(c." + s.r.sink.KeyColumns[i].List() + ")" }), from, condition)
}

// ordered lists the places of the order columns among those of distinct, and then the others:
// what is looked up next to each other is near each other.
func (s statements) ordered() string {
	var list []string
	for _, p := range s.r.sink.Order {
		list = append(list, strconv.Itoa(p+1))
	}
	places := len(s.r.sink.KeyColumns)
	for i, k := range s.r.sink.KeyColumns {
		if !slices.Contains(s.r.sink.Order, i) {
			list = append(list, strconv.Itoa(i+1))
		}
		if !k.Exact {
			places++
			list = append(list, strconv.Itoa(places))
		}
	}
	return strings.Join(list, ", ")
}

// distinct lists terms of key columns, named as in the change table, and what tells those
// apart that are equal in SQL and not as rendered.
func (s statements) distinct(column func(i int) string) string {
	return s.each(", ", func(i int) string { return s.term(i, column(i)) + " as " + s.changeColumn(i) }) +
		s.each("", func(i int) string {
			if s.r.sink.KeyColumns[i].Exact {
				return ""
			}
			return fmt.Sprintf(", %s as freshet_r%d", s.bytes(i, column(i)), i)
		})
}

// ours keeps the tuples of the reader's shard. Tuples are hashed as rendered: those that
// are one key are one lane's.
func (s statements) ours() string {
	if s.r.sink.Shards <= 1 {
		return ""
	}
	texts := s.each(", ", func(i int) string {
		if k := s.r.sink.KeyColumns[i]; k.Lower {
			return lower(k.Change)
		}
		return s.changeColumn(i) + "::pg_catalog.text"
	})
	return fmt.Sprintf(` and (pg_catalog.hashtext(pg_catalog.concat_ws(pg_catalog.chr(31), %s) collate pg_catalog."C") & 2147483647) %% %d = %d`,
		texts, s.r.sink.Shards, s.r.shard)
}
