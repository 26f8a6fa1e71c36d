package key_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

func text(s string) key.Part { return key.Part{Text: s} }

func column(n int, c key.Class) key.Part { return key.Part{IsColumn: true, Column: n, Class: c} }

// literals are what may stand between columns, all that a pattern or an expression
// could take for its own included.
var literals = rapid.StringOf(rapid.RuneFrom([]rune(`:/{}*?[]\^$.+|()#"' aü☃`)))

// separators cannot be part of any column but a text.
var separators = rapid.Custom(func(t *rapid.T) string {
	return rapid.SampledFrom([]string{":", "*", "?", "[", "]", `\`, "}", ".", "|", "#", "☃"}).Draw(t, "first") + literals.Draw(t, "rest")
})

func rendered(t *rapid.T, c key.Class) string {
	switch c {
	case key.Int16:
		return strconv.FormatInt(int64(rapid.Int16().Draw(t, "smallint")), 10)
	case key.Int32:
		return strconv.FormatInt(int64(rapid.Int32().Draw(t, "integer")), 10)
	case key.Int64:
		return strconv.FormatInt(rapid.Int64().Draw(t, "bigint"), 10)
	case key.OID:
		return strconv.FormatUint(uint64(rapid.Uint32().Draw(t, "oid")), 10)
	case key.UUID:
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	case key.Bool:
		return strconv.FormatBool(rapid.Bool().Draw(t, "boolean"))
	default:
		// What Postgres can hold: no NUL. The empty text is one.
		return strings.ReplaceAll(rapid.String().Draw(t, "text"), "\x00", "")
	}
}

// drawn is a template as check_key lets it pass, with a tuple for it.
type drawn struct {
	template *key.Template
	tuple    []string
	source   string
}

func templates(t *rapid.T) drawn {
	classes := []key.Class{rapid.SampledFrom([]key.Class{key.AnyText, key.Foreign}).Draw(t, "text class")}
	if rapid.Bool().Draw(t, "composite") {
		classes = rapid.SliceOfN(rapid.SampledFrom([]key.Class{key.Int16, key.Int32, key.Int64, key.OID, key.UUID, key.Bool}), 1, 4).Draw(t, "classes")
	}
	var d drawn
	parts := []key.Part{text(literals.Draw(t, "prefix"))}
	order := rapid.Permutation(indices(len(classes))).Draw(t, "order")
	for i, n := range order {
		if i > 0 {
			parts = append(parts, text(separators.Draw(t, "separator")))
		}
		parts = append(parts, column(n, classes[n]))
	}
	if rapid.Bool().Draw(t, "suffix") {
		parts = append(parts, text(separators.Draw(t, "last")))
	}
	for _, c := range classes {
		d.tuple = append(d.tuple, rendered(t, c))
	}
	template, err := key.NewTemplate(parts, len(classes))
	if err != nil {
		t.Fatal(err)
	}
	d.template, d.source = template, fmt.Sprintf("%+v", parts)
	return d
}

func indices(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func render(t *key.Template, tuple []string) string {
	raw := make([][]byte, len(tuple))
	for i, s := range tuple {
		raw[i] = []byte(s)
	}
	return string(t.Append([]byte("before "), raw))[len("before "):]
}

func TestTupleComesBackFromItsKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := templates(t)
		k := render(d.template, d.tuple)
		got, ok := d.template.Parse(k)
		if !ok {
			t.Fatalf("%s: %q renders to %q, which is not taken for a key", d.source, d.tuple, k)
		}
		for i := range got {
			if got[i] != d.tuple[i] {
				t.Fatalf("%s: %q renders to %q, which comes back as %q", d.source, d.tuple, k, got)
			}
		}
	})
}

func TestWhatParsesRendersToTheSameKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := templates(t)
		k := render(d.template, d.tuple)
		// A key that is nearly right.
		at := rapid.IntRange(0, len(k)).Draw(t, "at")
		k = k[:at] + rapid.StringOf(rapid.RuneFrom([]rune("0-+1a :Z☃"))).Draw(t, "more") + k[at:]
		if tuple, ok := d.template.Parse(k); ok && render(d.template, tuple) != k {
			t.Fatalf("%s: %q is taken for the key of %q, which is %q", d.source, k, tuple, render(d.template, tuple))
		}
	})
}

func TestForeignKeysAreNotTakenForOurs(t *testing.T) {
	number := []key.Part{text("n:"), column(0, key.Int32)}
	pair := []key.Part{text("p:"), column(1, key.Int64), text(":"), column(0, key.Bool)}
	twice := []key.Part{column(0, key.Int64), text(":"), column(0, key.Int64)}
	word := []key.Part{text("w:"), column(0, key.AnyText)}
	for _, c := range []struct {
		parts   []key.Part
		columns int
		keys    []string
	}{
		{number, 1, []string{"n:", "n:x", "n:07", "n:+7", "n:-0", "n: 7", "n:7 ", "n:7\n", "n:2147483648", "n:7:7", "N:7", "xn:7", ""}},
		{[]key.Part{text("n:"), column(0, key.Int16)}, 1, []string{"n:32768", "n:-32769"}},
		{[]key.Part{text("n:"), column(0, key.OID)}, 1, []string{"n:-1", "n:4294967296"}},
		{[]key.Part{text("u:"), column(0, key.UUID)}, 1, []string{"u:2F6B2B3E-0001-4C4E-8C4F-D1A2B3C4D5E6", "u:2f6b2b3e00014c4e8c4fd1a2b3c4d5e6"}},
		{pair, 2, []string{"p:1:t", "p:1:TRUE", "p:1", "p:true:1", "p:1:true:"}},
		{twice, 1, []string{"1:2", "1:01"}},
		// No Postgres text; asked about it, Postgres would answer with an error for the
		// whole page.
		{word, 1, []string{"w:\xff", "w:a\x00b", "w:\xed\xa0\x80"}},
		{[]key.Part{text("w:"), column(0, key.Foreign)}, 1, []string{"w:\xff", "w:a\x00b"}},
	} {
		template, err := key.NewTemplate(c.parts, c.columns)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range c.keys {
			if tuple, ok := template.Parse(k); ok {
				t.Errorf("%q is taken for the key of %q", k, tuple)
			}
		}
	}
}

func TestOnlyForeignTypesAreLeftToPostgres(t *testing.T) {
	for class, want := range map[key.Class]bool{key.AnyText: false, key.Int64: false, key.UUID: false, key.Foreign: true} {
		template, err := key.NewTemplate([]key.Part{text("k:"), column(0, class)}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if template.NeedsCheck() != want {
			t.Errorf("class %d: NeedsCheck is %v", class, !want)
		}
	}
}

func TestTemplateNamesEveryColumn(t *testing.T) {
	for _, parts := range [][]key.Part{
		{text("k")}, {column(0, key.Int64)}, {column(0, key.Int64), column(2, key.Int64)}, {column(-1, key.Int64)},
	} {
		if _, err := key.NewTemplate(parts, 2); err == nil {
			t.Errorf("%v is taken for a template over two columns", parts)
		}
	}
}

func dial(t *testing.T) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(serverstest.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestScanFindsKeysWhateverTheTemplateSays(t *testing.T) {
	t.Parallel()
	client := dial(t)
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		if err := client.FlushDB(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		d := templates(t)
		k := render(d.template, d.tuple)
		if err := client.Set(ctx, k, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		found, _, err := client.Scan(ctx, 0, d.template.Pattern(), 100).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0] != k {
			t.Fatalf("the pattern %q does not find %q: %q", d.template.Pattern(), k, found)
		}
	})
}

func TestPatternTakesLiteralsLiterally(t *testing.T) {
	t.Parallel()
	client := dial(t)
	ctx := t.Context()
	for literal, other := range map[string]string{
		"a*b:": "axb:", "a?b:": "axb:", "a[xy]b:": "axb:", `a\xb:`: "axb:", "a[^x]b:": "ayb:", "a]b:": "ab:", `a\*b:`: "a*b:", "a[x-z]:": "ay:",
	} {
		template, err := key.NewTemplate([]key.Part{text(literal), column(0, key.Int64)}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{literal + "1", other + "1"} {
			if err := client.Set(ctx, k, "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		found, _, err := client.Scan(ctx, 0, template.Pattern(), 100).Result()
		if err != nil || len(found) != 1 || found[0] != literal+"1" {
			t.Errorf("%q, the pattern of %q, finds %q, %v", template.Pattern(), literal, found, err)
		}
		if err := client.FlushDB(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	var all []*key.Template
	for _, parts := range [][]key.Part{
		{text("n:"), column(0, key.Int64)},
		{text("{t"), column(0, key.UUID), text("}:"), column(1, key.Bool), text(".*")},
		{text("w:"), column(0, key.AnyText)},
	} {
		columns := 1
		if len(parts) > 3 {
			columns = 2
		}
		template, err := key.NewTemplate(parts, columns)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, template)
	}
	for _, seed := range []string{"n:7", "n:-07", "w:", "{t2f6b2b3e-0001-4c4e-8c4f-d1a2b3c4d5e6}:true.*", "w:\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, k string) {
		for _, template := range all {
			if tuple, ok := template.Parse(k); ok && render(template, tuple) != k {
				t.Errorf("%q is taken for the key of %q, which is %q", k, tuple, render(template, tuple))
			}
		}
	})
}
