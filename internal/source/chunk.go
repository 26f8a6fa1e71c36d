package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/pg"
)

// Chunk is the result of reading rows of the source in key order.
type Chunk struct {
	Meta
	// Rows read, whether the filter let them pass or not.
	Rows int
	// End: there are no more.
	End bool
	// Upper is the tuple of the order columns of the last row, nil without rows.
	Upper []string

	full bool
}

// enoughBytes of entries end a read before its limit: rows can be far larger than those
// before them.
const enoughBytes = 6 << 20

// room returns what says that no more is to be appended.
func (e *Entries) room() (full func() bool) {
	enough := len(e.arena) + enoughBytes
	return func() bool { return len(e.arena) > enough }
}

// Chunk reads at most limit rows after the tuple `after` (nil: from the beginning), up to and
// including the tuple `until` (nil: to the end), and renders those that pass the filter into e.
func (r *Reader) Chunk(ctx context.Context, after, until []string, limit int, e *Entries) (Chunk, error) {
	has := bounded{after: after != nil, until: until != nil}
	c, err := r.rows(ctx, r.chunk[has], r.bareChunk[has], chunkParams(limit, after, until), e)
	c.End = err == nil && !c.full && c.Rows < limit
	return c, err
}

// chunkParams are the parameters of the statement for these bounds.
func chunkParams(limit int, after, until []string) [][]byte {
	params := [][]byte{strconv.AppendInt(nil, int64(limit), 10)}
	for _, bound := range [][]string{after, until} {
		if bound != nil {
			params = append(params, arrayLiteral(bound))
		}
	}
	return params
}

// Sample reads about limit rows from all over the source and renders those that pass
// the filter into e.
func (r *Reader) Sample(ctx context.Context, limit int, e *Entries) (Chunk, error) {
	var rows int64
	err := r.pool.QueryRow(ctx, "select freshet.estimate_rows($1::text::regclass)",
		pgx.Identifier{r.sink.Schema, r.sink.Table}.Sanitize()).Scan(&rows)
	if err != nil {
		return Chunk{}, fmt.Errorf("estimate rows: %w", err)
	}
	// More than asked for by five standard deviations, so that the limit decides and not chance.
	wanted := float64(limit) + 5*math.Sqrt(float64(limit)) + 5
	percent := min(100, 100*wanted/float64(max(rows, 1)))
	params := [][]byte{strconv.AppendFloat(nil, percent, 'f', 6, 64), strconv.AppendInt(nil, int64(limit), 10)}
	return r.rows(ctx, r.sample, r.bareSample, params, e)
}

// First lists the tuples of the first rows of the source in key order, at most limit, whether
// they have an entry or not.
func (r *Reader) First(ctx context.Context, limit int) ([][]string, error) {
	_, read, err := r.bare(ctx, r.bareChunk[bounded{}], chunkParams(limit, nil, nil))
	if err != nil {
		return nil, err
	}
	list := make([][]string, min(limit, read.len()))
	for i := range list {
		list[i] = read.texts(i)
	}
	return list, nil
}

// rows runs a statement that reads rows of the source, or its bare twin and looks the rows
// up by their keys where one of them raises an error. Snapshot is then that of the former:
// what was touched since may have been read newer, and nothing older.
func (r *Reader) rows(ctx context.Context, full, bare listing, params [][]byte, e *Entries) (Chunk, error) {
	begin := e.mark()
	enough := toEnd
	if !r.Ties() {
		enough = e.room()
	}
	c, err := r.rowsWith(ctx, full, params, enough, func(from row, tuple [][]byte) error {
		return r.appendRow(ctx, e, r.parts, from, tuple)
	}, nil)
	if pg.IsData(err) {
		e.rewind(begin)
		var read tuples
		if c, read, err = r.bare(ctx, bare, params); err == nil {
			err = r.isolate(ctx, &c.Meta, read, e)
		}
	}
	if err != nil {
		return Chunk{}, err
	}
	e.keepPresent()
	return c, nil
}

// bare runs a statement that lists tuples alone.
func (r *Reader) bare(ctx context.Context, l listing, params [][]byte) (Chunk, tuples, error) {
	read := tuples{width: len(r.parts)}
	c, err := r.rowsWith(ctx, l, params, toEnd, func(from row, tuple [][]byte) error {
		return r.appendTuple(&read, r.parts, from.keys, tuple)
	}, nil)
	return c, read, err
}

// keepPresent drops the entries that must be absent: which rows have none is the lanes' affair,
// unless it is for an error.
func (e *Entries) keepPresent() {
	e.Keep(func(i int) bool { return e.items[i].present || e.items[i].failed > 0 })
}

// toEnd never has enough.
func toEnd() bool { return false }

// Ties: several tuples can be equal by the order columns, and a chunk has to end behind all
// of them. It is one piece.
func (r *Reader) Ties() bool {
	if !r.sink.Grouped {
		return false
	}
	for _, k := range r.sink.KeyColumns {
		if !k.Exact {
			return true
		}
	}
	return false
}

// rowsWith calls each for each row until full says that there is room for no more. After each
// row it calls then with what was read so far and the row's tuple; it may be nil.
func (r *Reader) rowsWith(ctx context.Context, l listing, params [][]byte, full func() bool,
	each func(from row, tuple [][]byte) error, then func(c *Chunk, last [][]byte) error,
) (Chunk, error) {
	var (
		c     Chunk
		tuple = r.newTuple()
		seen  bool
		last  [][]byte
		keys  = make([][]byte, len(r.parts))
	)
	err := r.read(ctx, l.query, params, func(values [][]byte) error {
		if values[0] != nil {
			seen = true
			var err error
			c.Meta, err = parseMeta(string(values[0]))
			return err
		}
		if c.full = c.full || full(); c.full {
			return nil // the rest of the reply is let go
		}
		c.Rows++
		for i, at := range l.keys {
			keys[i] = values[at]
		}
		if last == nil {
			last = r.newTuple()
		}
		if hasNull(keys) {
			// Unique columns may be null; such a row has no entry. It still moves the chunk on,
			// unless the null is in the order columns, where nothing comes after it by comparison.
			if err := r.renderOrder(keys, last); err != nil {
				return err
			}
		} else {
			if err := each(row{isTrue(values[1]), keys, values[l.value:], c.At}, tuple); err != nil {
				return err
			}
			for i := range tuple {
				last[i] = append(last[i][:0], tuple[i]...)
			}
		}
		if then == nil {
			return nil
		}
		return then(&c, last)
	})
	if err == nil && !seen {
		err = errors.New("no reply")
	}
	if err != nil {
		return Chunk{}, fmt.Errorf("read rows: %w", err)
	}
	if c.Rows > 0 {
		c.Upper = texts(last, r.sink.Order)
	}
	return c, nil
}

// renderOrder renders what is not null of a tuple.
func (r *Reader) renderOrder(values, tuple [][]byte) error {
	for i := range r.parts {
		if values[i] == nil {
			continue
		}
		var err error
		if tuple[i], err = r.parts[i].Append(tuple[i][:0], values[i]); err != nil {
			return err
		}
	}
	return nil
}
