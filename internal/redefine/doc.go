// Package redefine sees to it that nothing is written under a sink's definition while
// somebody could still write under an older one: before the first write, the control key
// of every lane and range that ever wrote is given the new definition, which breaks the
// WATCH of whoever holds it.
//
// It never writes an entry, and never moves a cursor.
package redefine
