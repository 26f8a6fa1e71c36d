package render

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// KeyPart renders one column as a part of a key: the text that column::text gives. It is immutable and safe for
// concurrent use.
type KeyPart struct {
	kind kind
	name string
}

// NewKeyPart prepares the rendering of this column.
func NewKeyPart(c Column) KeyPart {
	k := kindOf(c)
	switch k {
	case kindFloat4, kindFloat8, kindChar, kindJSON, kindJSONB:
		// Rare in keys, and where Postgres puts the exponent, or how a release prints a high byte, is its own affair.
		k = kindForeign
	}
	return KeyPart{kind: k, name: c.Name}
}

// Select returns the SQL expression whose binary form [KeyPart.Append] reads. The alias is that of the source and
// must be a valid SQL identifier already.
func (k KeyPart) Select(alias string) string {
	expr := qualified(alias, k.name)
	if k.kind == kindForeign {
		return expr + "::text"
	}
	return expr
}

// Append appends the text of one value, which must not be nil: a tuple with a null in it has no entry. When it fails,
// the error names the column and dst is returned as it was.
func (k KeyPart) Append(dst []byte, value []byte) ([]byte, error) {
	out, err := appendText(dst, k.kind, value)
	if err != nil {
		return dst, fmt.Errorf("render key column %q: %w", k.name, err)
	}
	return out, nil
}

// appendText appends one value as a cast to text would print it.
func appendText(dst []byte, k kind, v []byte) ([]byte, error) {
	if n := fixed[k]; n != 0 && len(v) != n {
		return dst, errLength
	}
	switch k {
	case kindInt2:
		return strconv.AppendInt(dst, int64(int16(binary.BigEndian.Uint16(v))), 10), nil
	case kindInt4:
		return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(v))), 10), nil
	case kindInt8:
		return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(v)), 10), nil
	case kindOID:
		return strconv.AppendUint(dst, uint64(binary.BigEndian.Uint32(v)), 10), nil
	case kindUUID:
		return appendUUID(dst, v), nil
	case kindBool:
		// The cast says true and false; only the output function says t and f.
		return appendBool(dst, v[0]), nil
	case kindNumeric:
		return appendNumeric(dst, v, false)
	case kindBytea:
		return appendBytea(dst, v), nil
	case kindDate:
		return appendDate(dst, int32(binary.BigEndian.Uint32(v))), nil
	case kindTime:
		us := int64(binary.BigEndian.Uint64(v))
		if us < 0 || us > microsPerDay {
			return dst, errRange
		}
		return appendTime(dst, us), nil
	case kindTimestamp:
		return appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)), ' ', ""), nil
	case kindTimestamptz:
		return appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)), ' ', "+00"), nil
	case kindBpchar:
		// The cast to text drops the padding that the value itself keeps.
		for len(v) > 0 && v[len(v)-1] == ' ' {
			v = v[:len(v)-1]
		}
	}
	return append(dst, v...), nil
}
