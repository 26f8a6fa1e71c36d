// Package transform makes the value of an entry by a function of its row, in the worker: an expression ([Compile]) or
// a function of Go ([NewGo]).
//
// It owns the language of expressions. Its grammar is that of github.com/expr-lang/expr, whose parser reads it; what
// an expression means is decided here, because an entry must never hold a value that is wrong by a little:
//
//   - Numbers are exact. A numeric and a literal such as 0.2 are decimals, a whole number that outgrows 64 bits becomes
//     one, and only float columns are floats.
//   - A null is an error wherever a value is needed; ??, ?., default, == and != are for nulls. Nothing prints <nil>.
//   - A column that is passed through is printed by package render, so it is what it would be without an expression.
//   - What an expression gives depends on record, key, sink and now, and on nothing else: no clock, no time zone of the
//     machine, no chance, no order of a hash table.
//   - It is bounded: steps and memory are counted, so the same row fails everywhere or nowhere, however busy the
//     machine is.
//
// Besides the operators of expr there are these functions. Of loops: all, none, any, one, filter, map, count, sum, find,
// findIndex, findLast, findLastIndex, groupBy, sortBy, reduce. Of maps and of any value: pick, omit, merge, keys,
// values, toPairs, fromPairs, get, default, type, len, toJSON, fromJSON, sha256, toBase64, fromBase64, string. Of text:
// upper, lower, trim, trimPrefix, trimSuffix, hasPrefix, hasSuffix, indexOf, lastIndexOf, split, splitAfter, replace,
// repeat, join. Of numbers: round, ceil, floor, abs, min, max, mean, median, int, decimal, float. Of lists: first, last,
// take, reverse, concat, flatten, uniq, sort, sum. Of times: format, date, unix, duration, and as methods Year, Month,
// Day, Hour, Minute, Second, Nanosecond, YearDay, Weekday, Unix, UnixMilli, UnixMicro, Before, After, Equal, Add, Sub,
// AddDate, Format, UTC, and of durations Hours, Minutes, Seconds, Milliseconds, Microseconds.
//
// A mistake that can be seen without a row is an error of Compile. What a row does wrong is an [*Error] of its entry
// and leaves the other entries alone; every other error of Append is a fault of this program or its caller.
//
// It must never open a connection, write a log line, keep what it was lent (values, keys) after a call, or panic
// because of a row or an expression.
package transform
