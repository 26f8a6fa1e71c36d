// Package owner keeps, in each target, who writes which keys there: one hash with a field
// for every sink of every installation. A sink whose keys somebody else could write, or has
// written, does not begin until it is told to take them over; two that write the same keys
// would overwrite each other for ever.
//
// It never touches an entry.
package owner
