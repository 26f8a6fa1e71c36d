// Package integration tests Freshet as its users meet it: real Postgres, real Redis,
// the SQL surface, workers as a library and workers as processes. It looks at results
// only through SQL and Redis, never through the code under test.
package integration
