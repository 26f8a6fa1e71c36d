package transform

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/freshet/freshet/internal/render"
)

// Record is a row as a function of Go sees it. It decodes only what is asked for, and may be used until the function
// returns and not after, as what it gives as []byte is lent.
type Record struct{ r *goRun }

// Key is the entry's key in Redis.
func (r Record) Key() string { return string(r.r.key) }

// Sink is the sink's name.
func (r Record) Sink() string { return r.r.g.sink }

// Now is the moment that the row was read, in UTC.
func (r Record) Now() time.Time { return r.r.now.UTC() }

// Columns are the names of the columns in the order of the source.
func (r Record) Columns() []string { return append([]string(nil), r.r.g.names...) }

// IsNull reports whether a column is null. One that does not exist is.
func (r Record) IsNull(name string) bool {
	i, ok := r.r.g.index[name]
	return !ok || r.r.values[i] == nil
}

var errNull = errors.New("it is null")

// cell finds a column that is one of some sorts, or of any, and its value.
func (r Record) cell(name, as string, sorts ...render.Sort) (render.Cell, []byte, error) {
	i, ok := r.r.g.index[name]
	if !ok {
		return render.Cell{}, nil, fmt.Errorf("there is no column %q%s", name, suggest(name, r.r.g.names, ""))
	}
	c := r.r.g.cells[i]
	found := len(sorts) == 0
	for _, s := range sorts {
		found = found || c.Sort() == s
	}
	if !found {
		return c, nil, fmt.Errorf("column %q: its type is not read as %s", name, as)
	}
	if r.r.values[i] == nil {
		return c, nil, fmt.Errorf("column %q: %w", name, errNull)
	}
	return c, r.r.values[i], nil
}

// decoded notes an error of a value that Postgres should not have sent, and names the column in it.
func (r Record) decoded(name string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, render.ErrNotUTF8) {
		r.r.defect = fmt.Errorf("transform column %q: %w", name, err)
	}
	return fmt.Errorf("column %q: %w", name, err)
}

// Int64 reads an int2, int4 or int8. Null is an error, as in all of these.
func (r Record) Int64(name string) (int64, error) {
	c, v, err := r.cell(name, "a whole number", render.Int)
	if err != nil {
		return 0, err
	}
	n, err := c.Int(v)
	return n, r.decoded(name, err)
}

// Float64 reads a float4 or float8. For a numeric take Text, which is exact.
func (r Record) Float64(name string) (float64, error) {
	c, v, err := r.cell(name, "a float", render.Float4, render.Float8)
	if err != nil {
		return 0, err
	}
	f, err := c.Float(v)
	return f, r.decoded(name, err)
}

// Bool reads a bool.
func (r Record) Bool(name string) (bool, error) {
	c, v, err := r.cell(name, "true or false", render.Bool)
	if err != nil {
		return false, err
	}
	n, err := c.Int(v)
	return n != 0, r.decoded(name, err)
}

// Text is a column as a cast to text prints it in Postgres, with times in UTC; of an array or a composite it is
// JSON, as of json itself. It is empty for null, for a column that does not exist and for one that cannot be read;
// the latter two are errors of the entry whatever the function returns.
func (r Record) Text(name string) string {
	c, v, err := r.cell(name, "text")
	if errors.Is(err, errNull) {
		return ""
	}
	if err == nil {
		var out []byte
		if out, err = c.AppendText(nil, v); err == nil {
			return r.unquoted(c, out)
		}
		err = r.decoded(name, err)
	}
	if r.r.misuse == nil {
		r.r.misuse = err
	}
	return ""
}

// unquoted is what a type without a decoder prints: one that is no array and no composite came as a JSON string.
func (r Record) unquoted(c render.Cell, out []byte) string {
	if !c.Foreign() || len(out) < 2 || out[0] != '"' {
		return string(out)
	}
	d := decoder{run: &run{values: r.r.values}, at: -1, src: string(out)}
	if s, problem := d.text(); problem == "" {
		return s
	}
	return string(out)
}

// Bytes reads a bytea. What it returns is lent.
func (r Record) Bytes(name string) ([]byte, error) {
	_, v, err := r.cell(name, "bytes", render.Bytes)
	return v, err
}

// Time reads a date, timestamp or timestamptz, in UTC. An infinity is an error; Text has it.
func (r Record) Time(name string) (t time.Time, err error) {
	c, v, err := r.cell(name, "a time", render.Date, render.Timestamp, render.Timestamptz)
	if err != nil {
		return time.Time{}, err
	}
	n, err := c.Int(v)
	if err != nil {
		return time.Time{}, r.decoded(name, err)
	}
	i := value{kind: instant, num: n}
	if c.Sort() == render.Date {
		i.clock = date
	}
	if infinite(i) || i.clock == date && (n > math.MaxInt32 || n < math.MinInt32) {
		return time.Time{}, fmt.Errorf("column %q: an infinite time is none of Go's", name)
	}
	return goTime(-1, i), nil
}

// JSON is a column as to_jsonb prints it, null for null. What it returns is lent.
func (r Record) JSON(name string) ([]byte, error) {
	c, v, err := r.cell(name, "JSON")
	if errors.Is(err, errNull) {
		return []byte("null"), nil
	}
	if err != nil {
		return nil, err
	}
	from := len(r.r.scratch)
	out, err := c.AppendJSON(r.r.scratch, v)
	if err != nil {
		return nil, r.decoded(name, err)
	}
	r.r.scratch = out
	return out[from:len(out):len(out)], nil
}
