package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/key"
)

// keyColumns are columns of a table whose keys are judged, with texts that their types
// print. Those of the texts are drawn, from what else is in the keys.
var keyColumns = []struct {
	name, sql string
	texts     []string
}{
	{"i", "int", []string{"0", "1", "-1", "10", "11", "-11", "101"}},
	{"j", "bigint", []string{"0", "1", "-1", "10", "11", "-11", "1101"}},
	{"n", "numeric", []string{"1", "1.0", "-1", "10", "0.1", "NaN", "Infinity", "-Infinity"}},
	{"f", "float8", []string{"1", "-0", "1e+20", "1e-07", "NaN", "-Infinity"}},
	{"o", "oid", []string{"0", "1", "10", "4294967295"}},
	{"b", "boolean", []string{"true", "false"}},
	{"u", "uuid", []string{"00000000-0000-0000-0000-000000000001", "11111111-1111-1111-1111-11111111111e"}},
	{"d", "date", []string{"2026-01-01", "0001-01-01 BC", "infinity", "-infinity"}},
	{"s", "timestamptz", []string{"2026-01-01 00:00:00+00", "2026-01-01 00:00:00.5+00", "-infinity", "0001-01-01 00:00:00+00 BC"}},
	{"m", "time", []string{"00:00:00", "10:00:00.5", "11:11:11"}},
	{"y", "bytea", []string{`\x`, `\x00`, `\x1e`, `\x0000`}},
	{"x", "text", nil},
	{"v", "varchar", nil},
	{"w", "text", nil},
	{"e", "mood", []string{"", ":", "1", "1:1", "-", "true"}},
}

var placeholder = regexp.MustCompile(`\$\{[a-z|]+\}`)

// judgement is what the database says of a template.
type judgement struct {
	Refused string `json:"refused"`
	Parts   []struct {
		Text   string `json:"text"`
		Column string `json:"column"`
		// Class are the characters that the column can render to.
		Class     string   `json:"class"`
		Modifiers []string `json:"modifiers"`
	} `json:"parts"`
	// Overlaps says of each template whether it could render the same key.
	Overlaps []bool `json:"overlaps"`
}

const judge = `
create function accepted(parts jsonb) returns text language plpgsql as $$
begin
	perform freshet.check_key(parts);
	return '';
exception when invalid_parameter_value then
	return sqlerrm;
end $$;
create function judge(templates text[]) returns jsonb language sql as $$
	with t as materialized (
		select freshet.key_by_attnum('t'::regclass, freshet.parse_key(u.template)) as parts, u.n
		from unnest(templates) with ordinality as u (template, n))
	select jsonb_agg(jsonb_build_object(
		'refused', accepted(t.parts),
		'parts', (select jsonb_agg(p.part || case when p.part ? 'column' then jsonb_build_object(
			'class', freshet.key_class((p.part ->> 'type')::oid, p.part -> 'modifiers')) else '{}' end order by p.n)
			from jsonb_array_elements(t.parts) with ordinality as p (part, n)),
		'overlaps', (select jsonb_agg(freshet.keys_overlap(t.parts, o.parts) order by o.n) from t o)) order by t.n)
	from t
$$`

// keySet is what some tuples render to.
type keySet struct {
	byKey    map[string]string
	template *key.Template
	// twice says which two tuples have the same key, if any do.
	twice string
}

func (j judgement) keys(t *rapid.T, words []string) keySet {
	var columns []string
	var parts []key.Part
	values := map[string][]string{}
	for _, p := range j.Parts {
		if p.Column == "" {
			parts = append(parts, key.Part{Text: p.Text})
			continue
		}
		n := slices.Index(columns, p.Column)
		if n < 0 {
			n = len(columns)
			columns = append(columns, p.Column)
			for _, c := range keyColumns {
				if c.name == p.Column {
					values[c.name] = c.texts
				}
			}
			if values[p.Column] == nil {
				values[p.Column] = words
			}
		}
		parts = append(parts, key.Part{IsColumn: true, Column: n, Chars: p.Class, URL: slices.Contains(p.Modifiers, "url")})
	}
	template, err := key.NewTemplate(parts, len(columns))
	if err != nil {
		t.Fatal(err)
	}
	set := keySet{byKey: make(map[string]string), template: template}
	tuple := make([][]byte, len(columns))
	var each func(i int)
	each = func(i int) {
		if i < len(columns) {
			for _, v := range values[columns[i]] {
				tuple[i] = []byte(v)
				each(i + 1)
			}
			return
		}
		k, said := string(template.Append(nil, tuple)), fmt.Sprintf("%q", tuple)
		if other, found := set.byKey[k]; found {
			set.twice = fmt.Sprintf("%s and %s both have the key %q", other, said, k)
		}
		set.byKey[k] = said
		if j.Refused != "" {
			return
		}
		if back, ok := template.Parse(k); !ok || fmt.Sprintf("%q", back) != said {
			t.Fatalf("%s has the key %q, which comes back as %q", said, k, back)
		}
	}
	each(0)
	return set
}

// Whatever templates are accepted: no two tuples of one have the same key, and no key of
// one is a key of another that is accepted beside it.
func TestAcceptedKeysBelongToOneRowOfOneSink(t *testing.T) {
	e := newEnv(t)
	e.exec("create type mood as enum ('', ':', '1', '1:1', '-', 'true')")
	var columns []string
	for _, c := range keyColumns {
		columns = append(columns, c.name+" "+c.sql)
	}
	e.exec("create table t (" + strings.Join(columns, ", ") + ")")
	e.exec(judge)

	characters := []rune(`::::--..__//  aeExX01%{}$|\[]^*?+Z☃`)
	literal := rapid.Map(rapid.StringOfN(rapid.RuneFrom(characters), 0, 3, -1), func(text string) string {
		return strings.ReplaceAll(strings.TrimRight(text, "$"), "${", "$${")
	})
	template := rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		b.WriteString(literal.Draw(t, "prefix"))
		lower := map[string]bool{}
		for range rapid.IntRange(1, 3).Draw(t, "columns") {
			c := rapid.SampledFrom(keyColumns).Draw(t, "column")
			if _, drawn := lower[c.name]; !drawn {
				lower[c.name] = c.texts == nil && rapid.Bool().Draw(t, "lower")
			}
			b.WriteString("${" + c.name)
			if lower[c.name] {
				b.WriteString("|lower")
			}
			if rapid.Bool().Draw(t, "url") {
				b.WriteString("|url")
			}
			b.WriteString("}" + literal.Draw(t, "literal"))
		}
		return b.String()
	})

	// How often the database was right to refuse: else the tuples would prove nothing.
	var accepted, ambiguous, apart, shared int
	rapid.Check(t, func(t *rapid.T) {
		templates := []string{template.Draw(t, "template")}
		for range 2 {
			// Often much like the one before.
			columns := placeholder.FindAllString(templates[len(templates)-1], -1)
			one := rapid.SampledFrom(columns).Draw(t, "replaced")
			other := rapid.SampledFrom([]string{"1", "-1", "true", "1:1", "${x}", "${w|url}", "${j}", "${v}:${i}"}).Draw(t, "by")
			if len(columns) == 1 && !strings.HasPrefix(other, "$") {
				other += "${v}"
			}
			templates = append(templates, rapid.OneOf(template,
				rapid.Just(strings.Replace(templates[len(templates)-1], one, other, 1))).Draw(t, "template"))
		}
		var judged []judgement
		var raw []byte
		if err := e.db.QueryRow(e.t.Context(), "select judge($1)", templates).Scan(&raw); err != nil {
			t.Fatalf("%q: %v", templates, err)
		}
		if err := json.Unmarshal(raw, &judged); err != nil {
			t.Fatalf("%q: %v", templates, err)
		}

		// Texts made of what stands in the keys.
		pieces := []string{"1", "-1", "a", "true", ":", "%3A", "\\x", "infinity"}
		for _, j := range judged {
			for _, p := range j.Parts {
				if p.Text != "" {
					pieces = append(pieces, strings.ToLower(p.Text))
				}
			}
		}
		words := map[string]bool{"": true, ":": true, "1": true, "1:1": true}
		for range 8 {
			words[strings.ToLower(strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 3).Draw(t, "pieces"), ""))] = true
		}
		texts := slices.Sorted(maps.Keys(words))

		var sets []keySet
		for i, j := range judged {
			set := j.keys(t, texts)
			sets = append(sets, set)
			switch {
			case j.Refused == "" && set.twice != "":
				t.Fatalf("%q is accepted, and %s", templates[i], set.twice)
			case j.Refused == "":
				accepted++
			case set.twice != "":
				ambiguous++
			}
		}
		for i := range judged {
			for n := range i {
				both := slices.DeleteFunc(slices.Collect(maps.Keys(sets[i].byKey)), func(k string) bool { _, found := sets[n].byKey[k]; return !found })
				if judged[i].Overlaps[n] != judged[n].Overlaps[i] {
					t.Fatalf("whether %q and %q overlap depends on which comes first", templates[i], templates[n])
				}
				switch {
				case judged[i].Overlaps[n] && len(both) > 0:
					shared++
				case !judged[i].Overlaps[n] && len(both) > 0:
					t.Fatalf("%q and %q are accepted beside each other, and both have the key %q", templates[i], templates[n], both[0])
				case !judged[i].Overlaps[n]:
					apart++
				}
			}
		}
	})
	t.Logf("accepted %d, ambiguous %d; pairs apart %d, with a key of both %d", accepted, ambiguous, apart, shared)
	if accepted == 0 || ambiguous == 0 || apart == 0 || shared == 0 {
		t.Error("the templates that were drawn prove nothing")
	}
}
