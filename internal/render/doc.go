// Package render turns rows that Postgres sent in binary format into the bytes that go to Redis: the JSON object of
// an entry, and the parts of its key.
//
// It owns the knowledge of Postgres' binary formats and of how Postgres itself would print them. What [Object] writes
// is equal as jsonb to to_jsonb of the same columns, and what [KeyPart] writes is column::text byte for byte, both
// under TimeZone = UTC, DateStyle = ISO, IntervalStyle = postgres, bytea_output = hex and extra_float_digits = 1. So
// an entry does not depend on whether the worker or the database rendered it. Types without a decoder here are
// selected as to_jsonb(column), or column::text for a key, and their bytes are passed on.
//
// Rendering in the worker takes from the database the most expensive part of a backfill, so nothing here may allocate
// per row: everything appends to the caller's buffer.
//
// It must never open a connection, look anything up in a catalog, put a key together (separators and escapes belong
// to the key template), or panic on bytes it did not expect: it answers with an error that names the column.
package render
