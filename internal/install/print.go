package install

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/freshet/freshet/sql"
)

// riverLines is River's migration from which on its bookkeeping names a line.
const riverLines = 5

// Print returns the whole installation as one SQL text, for those who apply SQL by
// hand: it does what Migrate does, step by step as Migrate does it, any number of times.
func Print() (string, error) {
	migrations, err := load()
	if err != nil {
		return "", err
	}
	latest := migrations[len(migrations)-1].version
	river, err := rivermigrate.New(riverpgxv5.New(nil), &rivermigrate.Config{Schema: Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", fmt.Errorf("prepare the job queue's migrations: %w", err)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `-- Freshet, schema version %[1]d. Written by "freshet migrate --print"; apply it with
--     psql -v ON_ERROR_STOP=1 -f install.sql
-- as often as you like. Everything is in schema freshet.

set client_min_messages = warning;

do $freshet$
begin
    if current_setting('server_version_num')::integer < %[2]d then
        raise exception 'this server is Postgres %%; Freshet needs version %[3]d or later', current_setting('server_version');
    end if;
end
$freshet$;

begin;
%[4]s
%[5]s;
%[6]s
commit;
`, latest, oldest, oldest/10000, lock, setup, check(latest))

	for _, m := range migrations {
		once(&b, "freshet.schema_version", fmt.Sprintf("version = %d", m.version),
			fmt.Sprintf("insert into freshet.schema_version (version, name) values (%d, '%s');\n\n%s", m.version, m.name, m.text))
	}
	for _, m := range river.AllVersions() {
		text := strings.ReplaceAll(m.SQLUp, "/* TEMPLATE: schema */", Schema+".")
		columns, values := "line, version", fmt.Sprintf("'main', %d", m.Version)
		if m.Version < riverLines {
			columns, values = "version", fmt.Sprint(m.Version)
		}
		once(&b, "freshet.river_migration", fmt.Sprintf("version = %d", m.Version),
			fmt.Sprintf("%s\n\ninsert into freshet.river_migration (%s) values (%s);", strings.TrimSpace(text), columns, values))
	}

	// Another text, of a newer version, may have been at it in between.
	fmt.Fprintf(&b, "\nbegin;\n%s\n%s\n%s;\nset local check_function_bodies = off;\n", lock, check(latest), revokeRiver)
	files, err := fs.Glob(sql.Functions, "functions/*.sql")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := fs.ReadFile(sql.Functions, file)
		if err != nil {
			return "", err
		}
		b.WriteString("\n")
		b.Write(text)
	}
	fmt.Fprintf(&b, "\nset local client_min_messages = notice;\n%s;\n", grantRoles)
	b.WriteString("\ncommit;\nreset client_min_messages;\n")
	return b.String(), nil
}

// lock lets one migration run at a time, for each transaction of the text: a session's lock
// would stay behind with the connection of a pooler.
var lock = fmt.Sprintf("do $freshet$ begin perform pg_advisory_xact_lock(%d); end $freshet$;", lockKey)

// check stops where this text, of that version, does not go on from.
func check(latest int) string {
	return fmt.Sprintf(`do $freshet$
begin
    if exists (select from freshet.schema_version where version > %[1]d) then
        raise exception 'the schema in this database is newer than this text, which brings version %[1]d';
    elsif not exists (select from freshet.schema_version) and to_regclass('freshet.installation') is not null then
        raise exception '%[2]s'
            using hint = '%[3]s';
    end if;
end
$freshet$;`, latest, hollow, hollowHint)
}

// once writes text so that it is executed unless the table has a row that says that it
// was; the table itself may come with the text. Each is a transaction of its own, as a
// value added to an enum cannot be used before it is committed; and it says so, for a
// program may send the whole text at once, which Postgres takes for one transaction.
func once(b *strings.Builder, table, row, text string) {
	fmt.Fprintf(b, `
begin;
%[4]s
do $freshet$
declare
    v_done boolean := false;
begin
    if to_regclass('%[1]s') is not null then
        execute 'select exists (select from %[1]s where %[2]s)' into v_done;
    end if;
    if not v_done then
        execute $migration$
%[3]s
$migration$;
    end if;
end
$freshet$;
commit;
`, table, row, strings.TrimSpace(text), lock)
}
