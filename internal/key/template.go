package key

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxBytes is the longest key that is written. A tuple that renders to a longer one,
// or to an empty one, has no entry.
const MaxBytes = 512

// Reserved is how Freshet's own keys begin. A tuple that renders to such a key has no
// entry.
const Reserved = "freshet:"

// Writable reports whether an entry can be written under a key.
func Writable(key []byte) bool {
	return len(key) > 0 && len(key) <= MaxBytes && !strings.HasPrefix(string(key), Reserved)
}

// Part is a piece of a template: literal text, or a column.
type Part struct {
	Text string
	// Column is the position in the tuple of key columns; it counts when IsColumn is set.
	Column   int
	IsColumn bool
	// URL: the column's text is percent-encoded.
	URL bool
	// Lower: the column's text is in lower case.
	Lower bool
	// Class says how to tell the text of the column's type from what only looks like it.
	Class Class
	// Chars are the characters that the part can render to, as the inside of a regular
	// expression's brackets; "" is any text.
	Chars string
}

// Class is what is known about the text of a column's type.
type Class int

// The classes. A key is only taken for a sink's own when every part is the text that
// its type prints, and nothing that merely looks like it.
const (
	AnyText Class = iota
	Int16
	Int32
	Int64
	OID
	UUID
	Bool
	// Foreign is a type whose text only Postgres can judge.
	Foreign
)

// Template renders keys. It is immutable and safe for concurrent use.
type Template struct {
	parts   []Part
	columns int
	match   *regexp.Regexp
	pattern string
	foreign bool
}

// NewTemplate prepares a template over tuples of the given number of columns.
func NewTemplate(parts []Part, columns int) (*Template, error) {
	t := &Template{parts: parts, columns: columns}
	var expr, glob strings.Builder
	expr.WriteString(`(?s)\A`)
	seen := make([]bool, columns)
	for _, p := range parts {
		if !p.IsColumn {
			expr.WriteString(regexp.QuoteMeta(p.Text))
			glob.WriteString(escapeGlob(p.Text))
			continue
		}
		if p.Column < 0 || p.Column >= columns {
			return nil, fmt.Errorf("key template: column %d of %d", p.Column, columns)
		}
		seen[p.Column] = true
		t.foreign = t.foreign || p.Class == Foreign
		if p.Chars == "" {
			expr.WriteString(`(.*)`)
		} else {
			expr.WriteString(`([` + p.Chars + `]*)`)
		}
		glob.WriteByte('*')
	}
	for i, s := range seen {
		if !s {
			return nil, fmt.Errorf("key template: column %d is not in it", i)
		}
	}
	expr.WriteString(`\z`)
	re, err := regexp.Compile(expr.String())
	if err != nil {
		return nil, fmt.Errorf("key template: %w", err)
	}
	t.match, t.pattern = re, glob.String()
	return t, nil
}

// Of is the key of a tuple, given as texts.
func (t *Template) Of(tuple []string) string {
	parts := make([][]byte, len(tuple))
	for i, text := range tuple {
		parts[i] = []byte(text)
	}
	return string(t.Append(nil, parts))
}

// Append appends the key of a tuple, given as the rendered text of each column.
func (t *Template) Append(dst []byte, tuple [][]byte) []byte {
	for i := range t.parts {
		switch p := &t.parts[i]; {
		case !p.IsColumn:
			dst = append(dst, p.Text...)
		case p.URL:
			dst = appendEncoded(dst, tuple[p.Column])
		default:
			dst = append(dst, tuple[p.Column]...)
		}
	}
	return dst
}

// Pattern is a SCAN pattern that every key of the template matches, and perhaps others.
func (t *Template) Pattern() string { return t.pattern }

// Parse is the inverse of Append: the tuple that renders to key, and false if there
// is none. Of a Foreign column only Postgres can tell whether its text is
// canonical; NeedsCheck says whether there is one.
func (t *Template) Parse(key string) ([]string, bool) {
	if len(key) > MaxBytes {
		return nil, false
	}
	found := t.match.FindStringSubmatch(key)
	if found == nil {
		return nil, false
	}
	tuple := make([]string, t.columns)
	given := make([]bool, t.columns)
	group := 0
	for _, p := range t.parts {
		if !p.IsColumn {
			continue
		}
		group++
		text, ok := found[group], true
		if p.URL {
			text, ok = decode(text)
		}
		// Beyond ASCII, what is lower case depends on the collation.
		if p.Lower && strings.ContainsFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
			return nil, false
		}
		if !ok || !p.Class.canonical(text) || (given[p.Column] && tuple[p.Column] != text) {
			return nil, false
		}
		tuple[p.Column], given[p.Column] = text, true
	}
	return tuple, true
}

// NeedsCheck reports whether Parse leaves a part for Postgres to judge.
func (t *Template) NeedsCheck() bool { return t.foreign }

var uuidText = regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z`)

func (c Class) canonical(text string) bool {
	switch c {
	case Int16:
		return isInt(text, 16)
	case Int32:
		return isInt(text, 32)
	case Int64:
		return isInt(text, 64)
	case OID:
		n, err := strconv.ParseUint(text, 10, 32)
		return err == nil && strconv.FormatUint(n, 10) == text
	case UUID:
		return uuidText.MatchString(text)
	case Bool:
		return text == "true" || text == "false"
	default:
		// Nothing else is a text of Postgres'.
		return utf8.ValidString(text) && !strings.Contains(text, "\x00")
	}
}

func isInt(text string, bits int) bool {
	n, err := strconv.ParseInt(text, 10, bits)
	return err == nil && strconv.FormatInt(n, 10) == text
}

// escapeGlob makes text match itself in a SCAN pattern.
func escapeGlob(text string) string {
	return globEscaper.Replace(text)
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
