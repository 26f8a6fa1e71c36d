package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const shelf = `create table shelf (id bigint primary key, name text, price numeric, stock int, owner int, until timestamptz);
create index on shelf (owner);
insert into shelf values
	(1, 'chair', 10.50, 3, 1, '2126-01-01'), (2, 'Tisch & Co', 0, 1, 1, null), (3, null, 7, 9, 2, '2126-01-01'),
	(4, 'lamp', 5, 0, 2, '2026-01-01'), (5, 'ünder', 2, 7, null, 'infinity')`

// previews are arguments of a sink, as flags of freshet preview, and what becomes of the rows.
var previews = []struct {
	name string
	args []string
	want []string
	// sql: freshet.preview shows the same.
	sql bool
}{
	{"columns", []string{"--columns", "id,name"}, []string{
		`shelf:1 entry {"id":1,"name":"chair"}`, `shelf:2 entry {"id":2,"name":"Tisch & Co"}`, `shelf:3 entry {"id":3,"name":null}`,
		`shelf:4 entry {"id":4,"name":"lamp"}`, `shelf:5 entry {"id":5,"name":"ünder"}`}, false},
	{"value", []string{"--value", "name", "--template", "s:${id}"}, []string{
		"s:1 entry chair", "s:2 entry Tisch & Co", "s:3 null", "s:4 entry lamp", "s:5 entry ünder"}, true},
	{"filter", []string{"--value", "name", "--filter", "stock > 0 -- in stock"}, []string{
		"shelf:1 entry chair", "shelf:2 entry Tisch & Co", "shelf:3 null", "shelf:4 filtered", "shelf:5 entry ünder"}, true},
	{"error", []string{"--value", "10 / price"}, []string{
		"shelf:1 entry 0.95238095238095238095", "shelf:2 error division by zero", "shelf:3 entry 1.4285714285714286", "shelf:4 entry 2.0000000000000000",
		"shelf:5 entry 5.0000000000000000"}, true},
	{"until", []string{"--value", "stock", "--expires-at", "until"}, []string{
		"shelf:1 entry 3 until 2126-01-01", "shelf:2 entry 1", "shelf:3 entry 9 until 2126-01-01", "shelf:4 expired", "shelf:5 entry 7"}, true},
	{"group", []string{"--value", "string_agg(name, ',' order by id)", "--template", "of:${owner}", "--filter", "stock > 0"}, []string{
		"of:1 entry chair,Tisch & Co", "of:2 null"}, true},
	{"key", []string{"--value", "stock", "--template", "${name|lower|url}/${id}"}, []string{
		"chair/1 entry 3", "tisch%20%26%20co/2 entry 1", "lamp/4 entry 0", "%C3%BCnder/5 entry 7"}, true},
	{"transform", []string{"--transform", `record.stock > 0 ? upper(record.name) : nil`}, []string{
		"shelf:1 entry CHAIR", "shelf:2 entry TISCH & CO", "shelf:3 error record.name is null", "shelf:4 null", "shelf:5 entry ÜNDER"}, false},
	{"time", []string{"--transform", `record.stock > 0 ? format(now, "2006") > "2000" : nil`, "--expires-at", "until"}, []string{
		"shelf:1 entry true until 2126-01-01", "shelf:2 entry true", "shelf:3 entry true until 2126-01-01", "shelf:4 null", "shelf:5 entry true"}, false},
	{"nobody", []string{"--value", "stock", "--key", "shelf:99", "--key", "shelf:2"}, []string{"shelf:99 no row", "shelf:2 entry 1"}, false},
}

// shown are lines of freshet preview --json in the form of previews.
func shown(t *testing.T, stdout string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(stdout) {
		var row struct {
			Key, Result, Value, Error string
			Until                     *time.Time
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		text := row.Key + " " + row.Result
		if row.Value+row.Error != "" {
			text += " " + row.Value + row.Error
		}
		if row.Until != nil {
			text += " until " + row.Until.Format(time.DateOnly)
		}
		list = append(list, text)
	}
	return list
}

// same compares lines; an error may say more than is wanted.
func sameLines(got, want []string) bool {
	return slices.EqualFunc(got, want, func(g, w string) bool { return g == w || strings.Contains(w, " error ") && strings.HasPrefix(g, w) })
}

func TestPreviewOfASinkThatIsNotThere(t *testing.T) {
	e := newEnv(t)
	for _, sql := range strings.Split(shelf, ";\n") {
		e.exec(sql)
	}
	e.exec("analyze shelf")
	e.exec(usersTable)
	conn, err := pgx.Connect(t.Context(), e.databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	footprint := func() string {
		t.Helper()
		all := e.footprint(conn)
		delete(all, "pg_namespace") // a session's first temporary view brings a schema of the session's
		return fmt.Sprint(all)
	}
	before := footprint()
	// Whoever makes sinks previews them; a worker may not read every table.
	owner := *e
	owner.workerURL = e.databaseURL
	for _, p := range previews {
		stdout, stderr, status := owner.freshet(append([]string{"preview", "--source", "shelf", "--json"}, p.args...)...)
		if got := shown(t, stdout); status != 0 || !sameLines(got, p.want) {
			t.Errorf("%s: %d %s\n got %s\nwant %s", p.name, status, stderr, strings.Join(got, "\n     "), strings.Join(p.want, "\n     "))
		}
		if !p.sql {
			continue
		}
		if got := e.list("select concat_ws(' ', entry, result, coalesce(content, error), 'until ' || until::date) from freshet.preview(source => 'shelf'" + sqlFlags(p.args) + ")"); !sameLines(got, p.want) {
			t.Errorf("%s in SQL:\n got %s\nwant %s", p.name, strings.Join(got, "\n     "), strings.Join(p.want, "\n     "))
		}
	}
	if after := footprint(); after != before {
		t.Errorf("before the previews there was %s, and then %s", before, after)
	}
	stdout, _, _ := owner.freshet("preview", "--source", "shelf", "--value", "10 / price", "--expires", "1 h", "--rows", "2")
	if !strings.HasPrefix(stdout, "shelf:1  0.95238095238095238095  until 2") || !strings.Contains(stdout, "shelf:2  no entry, for making it fails: division by zero") {
		t.Errorf("as text: %s", stdout)
	}

	for _, wrong := range []struct{ text, flag, value string }{
		{"value: ", "--value", "nosuch"}, {"filter: ", "--filter", "name"}, {"columns: ", "--columns", "nosuch"}, {"key: ", "--template", "x"},
		{"transform: ", "--transform", "record.nosuch"}, {"transform: it uses now", "--transform", "{id: record.id, at: now}"}, {"expires", "--expires", "soon"}, {"expires_at: ", "--expires-at", "name"},
		{"key: ", "--template", "of:${owner}"}, {"is no key of sink", "--key", "other:1"}, {"--rows is 0", "--rows", "0"},
		{"accept_drift", "--value", "now()"},
	} {
		_, stderr, status := owner.freshet("preview", "--source", "shelf", wrong.flag, wrong.value)
		if status == 0 || !strings.Contains(stderr, wrong.text) {
			t.Errorf("%s %s: %d %q", wrong.flag, wrong.value, status, stderr)
		}
	}
	e.refused("freshet preview", "select freshet.preview(source => 'shelf', transform => 'record.id')")
	e.refused("rows: ", "select freshet.preview(source => 'shelf', rows => 0)")
	e.refused("source: ", "select freshet.preview()")
	e.refused("source: ", "select freshet.preview('shelf', filter => 'true')")
	e.refused("sink: ", "select freshet.preview('nosuch')")
}

// sqlFlags are flags as arguments of freshet.preview.
func sqlFlags(args []string) string {
	text := ""
	for i := 0; i < len(args); i += 2 {
		name := strings.ReplaceAll(strings.TrimPrefix(args[i], "--"), "-", "_")
		if name == "template" {
			name = "key"
		}
		text += fmt.Sprintf(", %s => '%s'", name, strings.ReplaceAll(args[i+1], "'", "''"))
	}
	return text
}

// A sink that exists is shown as its workers make it.
func TestPreviewOfASink(t *testing.T) {
	e := newEnv(t)
	for _, sql := range strings.Split(shelf, ";\n") {
		e.exec(sql)
	}
	e.exec("select freshet.create_sink('shelf', 'shelf', columns => '{name,stock,price}', filter => 'stock > 0')")
	e.start()
	e.lastBackfill("shelf")
	e.settle()
	stdout, stderr, status := e.freshet("preview", "shelf", "--json")
	if status != 0 {
		t.Fatal(stderr)
	}
	entries := 0
	for line := range strings.Lines(stdout) {
		var row struct{ Key, Result, Value string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if got := e.entry(row.Key); got != row.Value || (got == "") != (row.Result == "filtered") {
			t.Errorf("the entry of %s is %q, the preview %q (%s)", row.Key, got, row.Value, row.Result)
		}
		entries++
	}
	if entries != 5 {
		t.Errorf("%d rows are shown", entries)
	}
	if n := one[int](e, `select count(*) from freshet.preview('shelf', keys => '{shelf:1,shelf:4,shelf:9}') p
		join (values ('shelf:1', 'entry', '{"name": "chair", "price": 10.50, "stock": 3}'::jsonb), ('shelf:4', 'filtered', null)) as w (entry, result, content)
		on w.entry = p.entry and w.result = p.result and w.content is not distinct from p.content::jsonb`); n != 2 {
		t.Error(e.list("select p::text from freshet.preview('shelf', keys => '{shelf:1,shelf:4,shelf:9}') p"))
	}

	// Another form of it needs no key of its own, as nothing is written, unless it has another name.
	owner := *e
	owner.workerURL = e.databaseURL
	for _, name := range [][]string{nil, {"shelf"}} {
		stdout, stderr, status := owner.freshet(append(append([]string{"preview"}, name...), "--source", "shelf", "--columns", "id, name", "--rows", "1", "--json")...)
		if got := shown(t, stdout); status != 0 || !slices.Equal(got, []string{`shelf:1 entry {"id":1,"name":"chair"}`}) {
			t.Errorf("%s: %d %s %q", name, status, stderr, got)
		}
	}
	if got := e.list("select content from freshet.preview(source => 'shelf', value => 'name', rows => 1)"); !slices.Equal(got, []string{"chair"}) {
		t.Errorf("in SQL it is %q", got)
	}
	e.refused(`key: the sink "shelf" writes the same keys already`, "select freshet.preview('other', source => 'shelf')")
}
