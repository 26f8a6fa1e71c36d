// Package scan finds the keys of a sink in a target: those that its template renders, and
// none that only look alike. It reads; what is done with them is others' affair.
package scan
