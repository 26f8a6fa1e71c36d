package render

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf8"
)

// ErrNotUTF8 is wrapped by the error for a value that cannot be put into JSON as it is. Only databases that do not
// check their text (SQL_ASCII) hold such values. It is the one error that is the row's own fault; all others mean that
// the bytes are not what Select asked for.
var ErrNotUTF8 = errors.New("text is not valid UTF-8")

// What else can be wrong with a value; Append wraps it with the column's name.
var (
	errLength  = errors.New("unexpected length of the binary value")
	errVersion = errors.New("unknown version of the binary value")
	errRange   = errors.New("binary value out of range")
)

// fixed is the length of the kinds that have one, and 0 for the others (the last kind is named for the array's size).
var fixed = [...]int{
	kindBool: 1, kindInt2: 2, kindInt4: 4, kindInt8: 8, kindOID: 4, kindFloat4: 4, kindFloat8: 8,
	kindChar: 1, kindUUID: 16, kindDate: 4, kindTime: 8, kindTimestamp: 8, kindTimestamptz: 8, kindJSONB: 0,
}

// appendJSON appends one value as to_jsonb would print it.
func appendJSON(dst []byte, k kind, v []byte) ([]byte, error) {
	if n := fixed[k]; n != 0 && len(v) != n {
		return dst, errLength
	}
	switch k {
	case kindBool:
		return appendBool(dst, v[0]), nil
	case kindInt2:
		return strconv.AppendInt(dst, int64(int16(binary.BigEndian.Uint16(v))), 10), nil
	case kindInt4:
		return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(v))), 10), nil
	case kindInt8:
		return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(v)), 10), nil
	case kindFloat4:
		return appendFloat4(dst, binary.BigEndian.Uint32(v)), nil
	case kindFloat8:
		return appendFloat8(dst, binary.BigEndian.Uint64(v)), nil
	case kindText, kindBpchar:
		return appendJSONString(dst, v)
	case kindJSON:
		return appendDocument(dst, v)
	case kindJSONB, kindForeign:
		if len(v) > 0 && v[0] != 1 {
			return dst, errVersion
		}
		return appendDocument(dst, v[min(1, len(v)):])
	case kindNumeric:
		return appendNumeric(dst, v, true)
	case kindChar:
		return appendChar(dst, v[0])
	case kindBytea:
		return append(appendBytea(append(dst, `"\`...), v), '"'), nil
	}

	// What is left are strings of characters that JSON never escapes.
	dst = append(dst, '"')
	switch k {
	case kindOID:
		// A string: to_jsonb counts oid among the types it does not know.
		dst = strconv.AppendUint(dst, uint64(binary.BigEndian.Uint32(v)), 10)
	case kindUUID:
		dst = appendUUID(dst, v)
	case kindDate:
		dst = appendDate(dst, int32(binary.BigEndian.Uint32(v)))
	case kindTime:
		us := int64(binary.BigEndian.Uint64(v))
		if us < 0 || us > microsPerDay {
			return dst, errRange
		}
		dst = appendTime(dst, us)
	case kindTimestamp:
		dst = appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)), 'T', "")
	case kindTimestamptz:
		dst = appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)), 'T', "+00:00")
	}
	return append(dst, '"'), nil
}

// appendDocument appends what Postgres has parsed as JSON before it was stored. It is not parsed again: that would cost
// more than all the rest of a row. What a json column may hold and jsonb may not (a zero character, numbers beyond
// numeric) goes into the entry, where to_jsonb would fail.
func appendDocument(dst, doc []byte) ([]byte, error) {
	if len(doc) == 0 {
		return dst, errLength
	}
	if !utf8.Valid(doc) {
		return dst, ErrNotUTF8
	}
	return append(dst, doc...), nil
}
