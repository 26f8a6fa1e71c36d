// Command bench measures Freshet beside what one would do without it. It starts its own
// Postgres and Redis, runs each benchmark and its baseline in alternation on the same
// machine, and prints medians of several rounds and their ratio:
//
//	go run ./integration/bench [-only name,name] [-quick] [-rounds n] [-json]
//
// It ends with 1 when a benchmark misses its target in any round. Absolute figures say something about
// the machine, ratios about Freshet.
package main
