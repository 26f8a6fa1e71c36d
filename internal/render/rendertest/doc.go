// Package rendertest knows values of every type that a column can have, so that no type of Postgres' is forgotten when
// a rendering is compared with Postgres' own.
//
// It owns the values, and asks the catalog for the types: one that it has no values of is an error, whichever release
// of Postgres brought it. It must never render anything itself.
package rendertest
