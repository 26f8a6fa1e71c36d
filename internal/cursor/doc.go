// Package cursor says how far a lane has come through its change table. It is pure:
// it parses, compares and advances, and never talks to a database.
package cursor
