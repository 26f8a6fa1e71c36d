package render

import (
	"fmt"
	"strings"
)

// Column describes one column of a source.
type Column struct {
	// Name as in the catalog, unquoted.
	Name string
	// Type is the type's OID. For a domain, that of the type beneath it: a domain's values are sent as its base type's.
	Type uint32
	// Kind is pg_type.typtype of that base type: 'b' base, 'e' enum, 'c' composite, 'r' range, 'm' multirange.
	Kind byte
}

// Object renders the chosen columns of a row as one JSON object. It is immutable and safe for concurrent use.
type Object struct {
	columns []member
}

type member struct {
	// lead is all that stands before the value: the brace or comma, the name as a JSON string, the colon.
	lead string
	kind kind
	name string
}

// NewObject prepares the rendering of these columns, in this order.
func NewObject(columns []Column) *Object {
	o := &Object{columns: make([]member, len(columns))}
	for i, c := range columns {
		lead := []byte{','}
		if i == 0 {
			lead[0] = '{'
		}
		// A name is UTF-8 except in databases that do not check (SQL_ASCII); the object has to be JSON there too.
		lead, _ = appendJSONString(lead, []byte(strings.ToValidUTF8(c.Name, "\uFFFD")))
		o.columns[i] = member{lead: string(lead) + ":", kind: kindOf(c), name: c.Name}
	}
	return o
}

// Select returns, for each column, the SQL expression whose binary form [Object.Append] reads. The alias is that of
// the source and must be a valid SQL identifier already.
func (o *Object) Select(alias string) []string {
	exprs := make([]string, len(o.columns))
	for i := range o.columns {
		m := &o.columns[i]
		exprs[i] = qualified(alias, m.name)
		if m.kind == kindForeign {
			exprs[i] = "pg_catalog.to_jsonb(" + exprs[i] + ")"
		}
	}
	return exprs
}

// Append appends the JSON object of one row. The values are what Postgres sent, in the order of Select; nil is SQL
// null. When it fails, the error names the column and dst is returned as it was.
func (o *Object) Append(dst []byte, values [][]byte) ([]byte, error) {
	if len(values) != len(o.columns) {
		return dst, fmt.Errorf("render row: %d values for %d columns", len(values), len(o.columns))
	}
	if len(values) == 0 {
		return append(dst, '{', '}'), nil
	}
	out := dst
	for i := range o.columns {
		m := &o.columns[i]
		out = append(out, m.lead...)
		v := values[i]
		if v == nil {
			out = append(out, "null"...)
			continue
		}
		var err error
		if out, err = appendJSON(out, m.kind, v); err != nil {
			return dst, fmt.Errorf("render column %q: %w", m.name, err)
		}
	}
	return append(out, '}'), nil
}

func qualified(alias, name string) string {
	return alias + `."` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
