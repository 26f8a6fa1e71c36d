package render_test

import (
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/render"
)

func Example() {
	columns := []render.Column{{Name: "id", Type: 20, Kind: 'b'}, {Name: "tags", Type: 1009, Kind: 'b'}, {Name: "name", Type: 25, Kind: 'b'}}
	object, id := render.NewObject(columns), render.NewKeyPart(columns[0])
	fmt.Println("select " + strings.Join(append(object.Select("t"), id.Select("t")), ", ") + " from users t")

	// What Postgres would send for it, in binary format.
	row := [][]byte{{0, 0, 0, 0, 0, 0, 0, 42}, []byte("\x01[\"new\"]"), nil, {0, 0, 0, 0, 0, 0, 0, 42}}
	value, _ := object.Append(nil, row[:3])
	key, _ := id.Append([]byte("users:"), row[3])
	fmt.Printf("%s = %s\n", key, value)
	// Output:
	// select t."id", pg_catalog.to_jsonb(t."tags"), t."name", t."id" from users t
	// users:42 = {"id":42,"tags":["new"],"name":null}
}
