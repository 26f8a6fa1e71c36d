package render

import "github.com/jackc/pgx/v5/pgtype"

// A kind is how one column's bytes are read. A byte and a switch instead of a function value per column: the compiler
// makes a jump table of it, and the short decoders are inlined.
type kind uint8

const (
	// kindForeign is every type without a decoder here. An object selects it as jsonb, a key part as text.
	kindForeign kind = iota
	kindBool
	kindInt2
	kindInt4
	kindInt8
	kindOID
	kindFloat4
	kindFloat8
	kindNumeric
	kindText
	kindBpchar
	kindChar
	kindUUID
	kindBytea
	kindDate
	kindTime
	kindTimestamp
	kindTimestamptz
	kindJSON
	kindJSONB
)

func kindOf(c Column) kind {
	// The binary form of an enum is its label. Its OID is the user's, so only the catalog can tell. (to_jsonb would use
	// a cast from the enum to json if someone had made one; nobody is known to.)
	if c.Kind == 'e' {
		return kindText
	}
	switch c.Type {
	case pgtype.BoolOID:
		return kindBool
	case pgtype.Int2OID:
		return kindInt2
	case pgtype.Int4OID:
		return kindInt4
	case pgtype.Int8OID:
		return kindInt8
	case pgtype.OIDOID:
		return kindOID
	case pgtype.Float4OID:
		return kindFloat4
	case pgtype.Float8OID:
		return kindFloat8
	case pgtype.NumericOID:
		return kindNumeric
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID:
		return kindText
	case pgtype.BPCharOID:
		return kindBpchar
	case pgtype.QCharOID:
		return kindChar
	case pgtype.UUIDOID:
		return kindUUID
	case pgtype.ByteaOID:
		return kindBytea
	case pgtype.DateOID:
		return kindDate
	case pgtype.TimeOID:
		return kindTime
	case pgtype.TimestampOID:
		return kindTimestamp
	case pgtype.TimestamptzOID:
		return kindTimestamptz
	case pgtype.JSONOID:
		return kindJSON
	case pgtype.JSONBOID:
		return kindJSONB
	}
	return kindForeign
}
