// Package install puts Freshet's schema into a database: the tables, functions and
// views of package sql, and River's tables beside them in schema freshet; and takes them
// out again. Outside that schema it makes two roles, and takes away at the end what was granted
// to them.
package install
