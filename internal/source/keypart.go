package source

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/render"
)

// inChangeTable is a key column as the change table has it: freshet.change_type keeps
// whole numbers of any width as bigint.
func inChangeTable(k catalog.KeyColumn) catalog.KeyColumn {
	if k.Type == pgtype.Int2OID || k.Type == pgtype.Int4OID {
		k.Type = pgtype.Int8OID
	}
	return k
}

// keyPart renders one column of the key, under its name in one table.
type keyPart struct {
	render.KeyPart
	lowered string // the column's name, if it is to be in lower case
}

func newKeyPart(k catalog.KeyColumn, name string) keyPart {
	c := k.Column
	c.Name = name
	if !k.Lower {
		return keyPart{KeyPart: render.NewKeyPart(c)}
	}
	// Postgres lowers, by the column's own collation.
	return keyPart{KeyPart: render.NewKeyPart(render.Column{Name: name, Type: pgtype.TextOID, Kind: 'b'}), lowered: name}
}

// Select is the SQL expression that the part is rendered from.
func (k keyPart) Select(alias string) string {
	if k.lowered == "" {
		return k.KeyPart.Select(alias)
	}
	return lower(alias + "." + pgx.Identifier{k.lowered}.Sanitize())
}

func lower(expression string) string {
	return "pg_catalog.lower(" + expression + "::pg_catalog.text)"
}
