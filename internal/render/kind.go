package render

// OIDs of pg_type rows that are fixed in every Postgres (src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidChar        = 18
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

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
	case oidBool:
		return kindBool
	case oidInt2:
		return kindInt2
	case oidInt4:
		return kindInt4
	case oidInt8:
		return kindInt8
	case oidOID:
		return kindOID
	case oidFloat4:
		return kindFloat4
	case oidFloat8:
		return kindFloat8
	case oidNumeric:
		return kindNumeric
	case oidText, oidVarchar, oidName:
		return kindText
	case oidBpchar:
		return kindBpchar
	case oidChar:
		return kindChar
	case oidUUID:
		return kindUUID
	case oidBytea:
		return kindBytea
	case oidDate:
		return kindDate
	case oidTime:
		return kindTime
	case oidTimestamp:
		return kindTimestamp
	case oidTimestamptz:
		return kindTimestamptz
	case oidJSON:
		return kindJSON
	case oidJSONB:
		return kindJSONB
	}
	return kindForeign
}
