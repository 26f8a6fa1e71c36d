package source

import (
	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/render"
)

// OIDs of pg_type.
const (
	oidInt8 = 20
	oidInt2 = 21
	oidInt4 = 23
	oidText = 25 // what lower() returns
	oidUUID = 2950
)

// inChangeTable is a key column as the change table has it: freshet.change_type keeps
// whole numbers of any width as bigint.
func inChangeTable(k catalog.KeyColumn) catalog.KeyColumn {
	if k.Type == oidInt2 || k.Type == oidInt4 {
		k.Type = oidInt8
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
	return keyPart{KeyPart: render.NewKeyPart(render.Column{Name: name, Type: oidText, Kind: 'b'}), lowered: name}
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
