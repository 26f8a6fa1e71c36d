// Package pg connects to Postgres and runs the one kind of statement that Freshet
// renders from: a single query in a read-only transaction whose settings are pinned,
// so that every worker reads the same bytes whatever the role, the database or a
// pooler has set. It knows nothing of sinks.
package pg
