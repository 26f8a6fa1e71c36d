// Package sql holds what Freshet installs into a database: numbered migrations
// that only go forward, and functions that every migration replaces whole. It
// knows nothing of Go beyond embedding.
//
// install.sql is all of it in one text, written by go generate.
package sql

import "embed"

//go:generate sh -c "trap 'rm -f install.sql.new' EXIT; go run ../cmd/freshet migrate --print > install.sql.new && mv install.sql.new install.sql"

// Migrations are the tables, one file per schema version, in order of name.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Functions are the functions and views, one file each.
//
//go:embed functions/*.sql
var Functions embed.FS
