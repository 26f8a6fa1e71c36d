// Package install puts Freshet's schema into a database: the tables, functions and
// views of package sql, and River's tables beside them in schema freshet. It never
// touches anything outside that schema.
package install
