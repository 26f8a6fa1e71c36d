package transform

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder reads JSON. Numbers that are integers of 64 bits become such, others keep their digits. Texts without
// escapes are parts of src.
type decoder struct {
	run *run
	// at is the place in the expression for what is too much.
	at   int
	src  string
	pos  int
	deep int
}

// document reads all of src; problem says what is wrong with it.
func (d *decoder) document() (v value, problem string) {
	d.run.spend(d.at, len(d.src)/16)
	v, problem = d.value()
	if problem != "" {
		return v, problem + " at byte " + strconv.Itoa(d.pos+1)
	}
	if d.blanks(); d.pos < len(d.src) {
		return v, "something follows its end at byte " + strconv.Itoa(d.pos+1)
	}
	return v, ""
}

func (d *decoder) blanks() {
	for d.pos < len(d.src) && isBlank(d.src[d.pos]) {
		d.pos++
	}
}

func (d *decoder) peek() byte {
	if d.pos < len(d.src) {
		return d.src[d.pos]
	}
	return 0
}

func (d *decoder) value() (value, string) {
	d.blanks()
	if d.deep > maxDepth {
		return value{}, "it is nested too deep"
	}
	switch c := d.peek(); {
	case c == '{':
		return d.object()
	case c == '[':
		return d.array()
	case c == '"':
		s, problem := d.text()
		return textValue(s), problem
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	case d.word("true"):
		return boolValue(true), ""
	case d.word("false"):
		return boolValue(false), ""
	case d.word("null"):
		return value{}, ""
	case d.pos == len(d.src):
		return value{}, "it ends too early"
	}
	return value{}, "no value begins"
}

func (d *decoder) word(w string) bool {
	if len(d.src)-d.pos < len(w) || d.src[d.pos:d.pos+len(w)] != w {
		return false
	}
	d.pos += len(w)
	return true
}

func (d *decoder) object() (value, string) {
	d.pos++
	d.deep++
	var b builder
	d.run.grow(d.at, 64)
	if d.blanks(); d.peek() == '}' {
		d.pos++
		d.deep--
		return b.value(), ""
	}
	b.f = &fields{names: make([]string, 0, 4), values: make([]value, 0, 4)}
	for {
		if d.blanks(); d.peek() != '"' {
			return value{}, "a name is missing"
		}
		name, problem := d.text()
		if problem != "" {
			return value{}, problem
		}
		if d.blanks(); d.peek() != ':' {
			return value{}, "a colon is missing"
		}
		d.pos++
		v, problem := d.value()
		if problem != "" {
			return value{}, problem
		}
		d.run.grow(d.at, 2*(valueSize+16))
		b.set(name, v)
		switch d.blanks(); d.peek() {
		case ',':
			d.pos++
		case '}':
			d.pos++
			d.deep--
			return b.value(), ""
		default:
			return value{}, "a comma or } is missing"
		}
	}
}

func (d *decoder) array() (value, string) {
	d.pos++
	d.deep++
	var all []value
	d.run.grow(d.at, 32)
	if d.blanks(); d.peek() == ']' {
		d.pos++
		d.deep--
		return listValue(nil), ""
	}
	all = make([]value, 0, 4)
	for {
		v, problem := d.value()
		if problem != "" {
			return value{}, problem
		}
		d.run.grow(d.at, 2*valueSize)
		all = append(all, v)
		switch d.blanks(); d.peek() {
		case ',':
			d.pos++
		case ']':
			d.pos++
			d.deep--
			return listValue(all), ""
		default:
			return value{}, "a comma or ] is missing"
		}
	}
}

func (d *decoder) digits() bool {
	from := d.pos
	for c := d.peek(); c >= '0' && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos > from
}

func (d *decoder) number() (value, string) {
	from, whole := d.pos, true
	if d.peek() == '-' {
		d.pos++
	}
	first := d.peek()
	start := d.pos
	if !d.digits() || first == '0' && d.pos > start+1 {
		return value{}, "a number is malformed"
	}
	if d.peek() == '.' {
		d.pos++
		whole = false
		if !d.digits() {
			return value{}, "a number is malformed"
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.pos++
		whole = false
		if c := d.peek(); c == '+' || c == '-' {
			d.pos++
		}
		if !d.digits() {
			return value{}, "a number is malformed"
		}
	}
	s := d.src[from:d.pos]
	if whole {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return intValue(n), ""
		}
	}
	return value{kind: decimal, str: s}, ""
}

func (d *decoder) text() (string, string) {
	d.pos++
	from := d.pos
	for d.pos < len(d.src) {
		switch c := d.src[d.pos]; {
		case c == '"':
			s := d.src[from:d.pos]
			d.pos++
			return s, ""
		case c == '\\':
			return d.escaped(from)
		case c < ' ':
			return "", "a text has a control character"
		}
		d.pos++
	}
	return "", "a text has no end"
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (d *decoder) escaped(from int) (string, string) {
	out := append([]byte(nil), d.src[from:d.pos]...)
	for d.pos < len(d.src) {
		c := d.src[d.pos]
		d.pos++
		switch {
		case c == '"':
			d.run.grow(d.at, cap(out))
			return lent(out), ""
		case c < ' ':
			return "", "a text has a control character"
		case c != '\\':
			out = append(out, c)
		case d.peek() == 'u':
			d.pos++
			u, ok := d.unit()
			if !ok {
				return "", "an escape is malformed"
			}
			if utf16.IsSurrogate(u) {
				low := rune(-1)
				if d.word(`\u`) {
					low, _ = d.unit()
				}
				if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
					return "", "half a pair of surrogates is missing"
				}
			}
			out = utf8.AppendRune(out, u)
		default:
			e := escapes[d.peek()]
			if e == 0 {
				return "", "an escape is malformed"
			}
			out = append(out, e)
			d.pos++
		}
	}
	return "", "a text has no end"
}

// unit reads the four digits of \u.
func (d *decoder) unit() (rune, bool) {
	if len(d.src)-d.pos < 4 {
		return -1, false
	}
	n, err := strconv.ParseUint(d.src[d.pos:d.pos+4], 16, 16)
	if err != nil {
		return -1, false
	}
	d.pos += 4
	return rune(n), true
}
