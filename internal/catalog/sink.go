package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/render"
)

// Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrNoSink is returned when there is no such sink, or no longer.
var ErrNoSink = errors.New("there is no such sink")

// Sink is the definition of a sink, as the workers need it.
type Sink struct {
	ID         int32
	Name       string
	Definition int32
	// Revision is raised by every change of the sink.
	Revision int32
	SourceID int32
	// Schema and Table name the source as it is called now; empty when it has no
	// capture any more.
	Schema, Table string
	// Relation is its OID.
	Relation uint32
	// Partitioned: it is a partitioned table.
	Partitioned bool
	// RowSecurity: policies apply to what this role reads of it, or of the tables in Reads.
	RowSecurity bool
	// Reads are the OIDs of other tables that its expressions read.
	Reads  []uint32
	Filter string
	Paused bool
	// Failing: it was stopped because too many of its entries fail.
	Failing  bool
	Dropping bool
	// Retiring: its entries are being removed while its lanes go on.
	Retiring    bool
	KeepEntries bool
	Shards      int
	// Broken says why nothing can be written for the sink, empty if it can.
	Broken   string
	Coverage string
	// Expires is the time to live of entries, 0 for ever.
	Expires time.Duration
	Targets []string
	// Key columns, in order of attribute number: this is the order of a tuple.
	KeyColumns []KeyColumn
	// Order lists positions in KeyColumns: the columns of the index that backfills walk.
	Order []int
	// Columns of the entry. Value, an SQL expression of type ValueType, stands in their place
	// unless it is empty.
	Columns   []render.Column
	Value     string
	ValueType uint32
	// Transform is an expression over Columns that makes the entry, empty for their JSON.
	Transform string
	// Grouped: several rows share a key, and Value is an aggregate over them.
	Grouped bool
	// ExpiresAt is an SQL expression for the moment at which an entry expires, empty for none.
	ExpiresAt string
	// Drifts: an entry may be otherwise than its row would make it now, for as long as it lives or because that is
	// accepted.
	Drifts   bool
	Template *key.Template
	// KeyTypes are the OIDs of the key columns' types when the sink was made, known
	// even when the source is gone.
	KeyTypes []uint32
}

// KeyColumn is a column of the key and of the change table.
type KeyColumn struct {
	render.Column
	Attnum int16
	// Change is its name in the change table.
	Change string
	// SQLType is the type to cast its text to.
	SQLType string
	// Exact: values that are equal in SQL are the same text.
	Exact bool
	// Listed: the change table may have several values in one row, under the name [KeyColumn.List].
	Listed bool
	// Lower: the key has it in lower case.
	Lower bool
	// Folded: it is compared and ordered as lower(column), for its type tells case apart.
	Folded bool
	// Foreign: only Postgres can tell whether a text is a value of the type.
	Foreign bool
}

// List is the name in the change table of the column with several values in a row.
func (k KeyColumn) List() string { return k.Change + "s" }

// Old is the name in the change table of the column with the value of before, in the row of an
// update that changed the tuple.
func (k KeyColumn) Old() string { return "o" + k.Change[1:] }

// Leaves reports whether the sink's entries are being removed from a target while its source
// is written to.
func (s *Sink) Leaves(target string) bool {
	return s.Retiring || !slices.Contains(s.Targets, target)
}

// LoadSink reads the sink with this id.
func LoadSink(ctx context.Context, db Querier, id int32) (*Sink, error) {
	return load(ctx, db, fromSinks+"where s.id = $1", id)
}

// LoadSinkNamed reads the sink with this name.
func LoadSinkNamed(ctx context.Context, db Querier, name string) (*Sink, error) {
	return load(ctx, db, fromSinks+"where s.name = $1", name)
}

// Definition are arguments of freshet.create_sink, nil for its defaults.
type Definition struct {
	Name, Source                             string
	Key, Value, Transform, Filter, ExpiresAt *string
	Columns                                  []string
	Expires                                  *string // an interval
	AcceptDrift                              bool
}

// Define checks the arguments of a sink as freshet.create_sink does and returns what it would
// make. It makes a temporary view for a moment, so db has to be able to write; nothing is
// left of it.
func Define(ctx context.Context, db Querier, d Definition) (*Sink, error) {
	name := &d.Name
	if d.Name == "" {
		name = nil
	}
	return load(ctx, db, fromDefinition, name, d.Source, d.Key, d.Columns, d.Value, d.Transform, d.Filter, d.Expires, d.ExpiresAt, d.AcceptDrift)
}

// What sinkQuery selects from: sinks that there are, or one that might be.
const (
	fromSinks = `
from freshet.sink s
join freshet.source o on o.id = s.source_id
left join pg_catalog.pg_class c on c.oid = o.relid
` + columnsOfSink
	fromDefinition = `
from freshet.define($1, $2::text::regclass, $3, $4, $5, $6, $7, $8::text::interval, $9, $10) s
join pg_catalog.pg_class c on c.oid = $2::text::regclass
` + columnsOfSink
)

const sinkQuery = `
select s.id, s.name, s.definition, s.revision, s.source_id, coalesce(n.nspname, ''), coalesce(c.relname, ''),
       coalesce(c.oid, 0)::bigint, coalesce(c.relkind = 'p', false), coalesce(pg_catalog.row_security_active(c.oid), false) or exists (select from pg_catalog.unnest(s.reads) as t where pg_catalog.row_security_active(t)), s.reads::bigint[],
       coalesce(s.filter, ''), s.state = 'paused', s.state = 'failing', s.state = 'dropping', s.state = 'retiring', coalesce(extract(epoch from s.expires), 0)::float8, s.keep_entries, s.shards, coalesce(s.broken, ''), s.coverage, s.targets,
       (select pg_catalog.json_agg(p.part || pg_catalog.jsonb_build_object('class', freshet.key_class((p.part ->> 'type')::oid, p.part -> 'modifiers')) order by p.n)
        from pg_catalog.jsonb_array_elements(s.key_parts) with ordinality as p (part, n)),
       coalesce(s.value, ''), coalesce(s.value_type, 0)::bigint, coalesce(s.transform, ''), s.grouped, coalesce(s.expires_at, ''), s.accept_drift or coalesce(s.expires::text, s.expires_at) is not null,
       s.key_attnums, s.folded_attnums, s.order_attnums, coalesce(k.columns, '[]'), coalesce(v.columns, '[]')
`

const columnsOfSink = `left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join lateral (
    select pg_catalog.json_agg(pg_catalog.json_build_object(
               'attnum', a.attnum, 'name', a.attname, 'type', t.oid::bigint, 'kind', t.typtype,
               'sql', freshet.type_name(t.oid), 'exact', freshet.is_exact(c.oid, a.attnum),
               'listed', freshet.list_type(a.atttypid) is not null) order by u.n) as columns
    from pg_catalog.unnest(s.key_attnums) with ordinality as u (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.attnum
    join pg_catalog.pg_type t on t.oid = freshet.base_type(a.atttypid)
) k on true
left join lateral (
    select pg_catalog.json_agg(pg_catalog.json_build_object(
               'attnum', a.attnum, 'name', a.attname, 'type', t.oid::bigint, 'kind', t.typtype) order by u.n, a.attnum) as columns
    from pg_catalog.pg_attribute a
    left join pg_catalog.unnest(s.column_attnums) with ordinality as u (attnum, n) on u.attnum = a.attnum
    join pg_catalog.pg_type t on t.oid = freshet.base_type(a.atttypid)
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (s.column_attnums is null or u.n is not null)
) v on true
`

type columnRow struct {
	Attnum int16  `json:"attnum"`
	Name   string `json:"name"`
	Type   uint32 `json:"type"`
	Kind   string `json:"kind"`
	SQL    string `json:"sql"`
	Exact  bool   `json:"exact"`
	Listed bool   `json:"listed"`
}

func (r columnRow) column() render.Column {
	c := render.Column{Name: r.Name, Type: r.Type}
	if r.Kind != "" {
		c.Kind = r.Kind[0]
	}
	return c
}

type partRow struct {
	Text   string `json:"text"`
	Attnum int16  `json:"attnum"`
	Type   uint32 `json:"type"`
	// Class are the characters it can render to.
	Class     *string  `json:"class"`
	Modifiers []string `json:"modifiers"`
}

func load(ctx context.Context, db Querier, from string, args ...any) (*Sink, error) {
	var (
		s                   Sink
		parts               []partRow
		keyAttnums, order   []int16
		folded              []int16
		expires             float64
		keyColumns, columns []byte
		rawParts            []byte
	)
	err := db.QueryRow(ctx, sinkQuery+from, args...).Scan(
		&s.ID, &s.Name, &s.Definition, &s.Revision, &s.SourceID, &s.Schema, &s.Table, &s.Relation, &s.Partitioned, &s.RowSecurity, &s.Reads,
		&s.Filter, &s.Paused, &s.Failing, &s.Dropping, &s.Retiring, &expires, &s.KeepEntries, &s.Shards, &s.Broken, &s.Coverage, &s.Targets,
		&rawParts, &s.Value, &s.ValueType, &s.Transform, &s.Grouped, &s.ExpiresAt, &s.Drifts, &keyAttnums, &folded, &order, &keyColumns, &columns)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoSink
	}
	if err != nil {
		return nil, fmt.Errorf("read sink: %w", err)
	}
	s.Expires = time.Duration(expires * float64(time.Second))
	var keyRows, valueRows []columnRow
	for _, d := range []struct {
		raw  []byte
		into any
	}{{rawParts, &parts}, {keyColumns, &keyRows}, {columns, &valueRows}} {
		if err := json.Unmarshal(d.raw, d.into); err != nil {
			return nil, fmt.Errorf("read sink %s: %w", s.Name, err)
		}
	}
	if s.Broken != "" && len(keyRows) != len(keyAttnums) {
		keyRows = nil // nothing is read or written
	}
	if s.Table != "" && s.Broken == "" && len(keyRows) != len(keyAttnums) {
		return nil, fmt.Errorf("read sink %s: a key column of %s.%s is gone", s.Name, s.Schema, s.Table)
	}
	for _, r := range keyRows {
		s.KeyColumns = append(s.KeyColumns, KeyColumn{
			Column: r.column(), Attnum: r.Attnum, Change: fmt.Sprintf("k%d", r.Attnum), SQLType: r.SQL, Exact: r.Exact, Listed: r.Listed,
			Foreign: class(r.Type) == key.Foreign,
		})
	}
	for i := range s.KeyColumns {
		s.KeyColumns[i].Folded = slices.Contains(folded, s.KeyColumns[i].Attnum)
	}
	for _, r := range valueRows {
		s.Columns = append(s.Columns, r.column())
	}
	position := make(map[int16]int, len(keyAttnums))
	for i, a := range keyAttnums {
		position[a] = i
	}
	for _, a := range order {
		s.Order = append(s.Order, position[a])
	}
	s.KeyTypes = make([]uint32, len(keyAttnums))
	template := make([]key.Part, 0, len(parts))
	for _, p := range parts {
		if p.Attnum == 0 {
			template = append(template, key.Part{Text: p.Text})
			continue
		}
		s.KeyTypes[position[p.Attnum]] = p.Type
		part := key.Part{IsColumn: true, Column: position[p.Attnum], Class: class(p.Type), URL: slices.Contains(p.Modifiers, "url"), Lower: slices.Contains(p.Modifiers, "lower")}
		if p.Class != nil {
			part.Chars = *p.Class
		}
		template = append(template, part)
		if part.Lower && len(s.KeyColumns) > 0 {
			s.KeyColumns[part.Column].Lower = true
		}
	}
	if s.Template, err = key.NewTemplate(template, len(keyAttnums)); err != nil {
		return nil, fmt.Errorf("read sink %s: %w", s.Name, err)
	}
	return &s, nil
}

// class says which texts a type can print, by its OID in pg_type.
func class(oid uint32) key.Class {
	switch oid {
	case pgtype.Int2OID:
		return key.Int16
	case pgtype.Int4OID:
		return key.Int32
	case pgtype.Int8OID:
		return key.Int64
	case pgtype.OIDOID:
		return key.OID
	case pgtype.UUIDOID:
		return key.UUID
	case pgtype.BoolOID:
		return key.Bool
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID:
		return key.AnyText
	default:
		return key.Foreign
	}
}
