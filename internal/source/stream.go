package source

import (
	"context"
	"time"

	"github.com/freshet/freshet/internal/pg"
)

const (
	// enoughTime is how long a chunk is read at most that is taken in pieces, and how long it may wait for room.
	enoughTime = 750 * time.Millisecond
	// apartRows is how many rows are looked at at least where one of them raises an error.
	apartRows = 250
)

// Piece is what some rows of a chunk make that follow each other.
type Piece struct {
	// Meta is that of the chunk's first row. What is read later is as this snapshot sees it, or newer.
	Meta
	Rows int
	// Upper is the tuple of the order columns of the last row, nil without rows.
	Upper   []string
	Entries *Entries
}

// Pieces takes a chunk while it is being read.
type Pieces interface {
	// Empty returns what to fill next, nil if there is nothing until then. A zero time is never.
	Empty(ctx context.Context, until time.Time) (*Entries, error)
	// Full reports whether so many rows and bytes are enough for a piece.
	Full(rows, bytes int) bool
	// Take is given what Empty returned last. The last piece of a chunk may have no rows.
	Take(ctx context.Context, p Piece) error
}

// Stream is [Reader.Chunk] in pieces. It ends before the limit where it takes long, where there
// is nothing to fill, so that no statement stays open for who is held up, and where a row raises an error.
func (r *Reader) Stream(ctx context.Context, after, until []string, limit int, to Pieces) (Chunk, error) {
	first, err := to.Empty(ctx, time.Time{})
	if err != nil {
		return Chunk{}, err
	}
	s := stream{r: r, to: to, begin: time.Now(), ties: r.Ties(), piece: first}
	has := bounded{after: after != nil, until: until != nil}
	c, err := r.rowsWith(ctx, r.chunk[has], chunkParams(limit, after, until), s.enough, func(from row, tuple [][]byte) error {
		return r.appendRow(ctx, s.piece, r.parts, from, tuple)
	}, func(c *Chunk, last [][]byte) error {
		if s.rows++; s.ties || !to.Full(s.rows, s.piece.Bytes()) {
			return nil
		}
		c.Upper = texts(last, r.sink.Order)
		return s.next(ctx, c)
	})
	c.End = !c.full && c.Rows < limit
	switch {
	case s.piece == nil && (err == nil || pg.IsData(err)):
		// A row that raises an error is the next chunk's.
		s.taken.End = err == nil && c.End
		return s.taken, nil
	case pg.IsData(err):
		c, err = s.apart(ctx, after, until, limit-s.taken.Rows)
	}
	if err != nil {
		return Chunk{}, err
	}
	err = s.take(ctx, &c)
	return c, err
}

// stream is the state of a chunk that is taken in pieces.
type stream struct {
	r     *Reader
	to    Pieces
	begin time.Time
	// ties: a piece ends nowhere but at the end of the chunk; see [Reader.Ties].
	ties bool
	// piece is being filled, with so many rows by now.
	piece *Entries
	rows  int
	// taken is the chunk up to the piece.
	taken Chunk
}

// enough reports whether it takes long, at the end of a piece.
func (s *stream) enough() bool {
	return s.piece == nil || (s.rows == 0 && s.taken.Rows > 0 && time.Since(s.begin) > enoughTime)
}

// take hands over the piece that ends where c does.
func (s *stream) take(ctx context.Context, c *Chunk) error {
	s.piece.keepPresent()
	p := Piece{Meta: c.Meta, Rows: c.Rows - s.taken.Rows, Entries: s.piece}
	if p.Rows > 0 {
		p.Upper = c.Upper
	}
	s.taken, s.rows = *c, 0
	return s.to.Take(ctx, p)
}

func (s *stream) next(ctx context.Context, c *Chunk) error {
	err := s.take(ctx, c)
	if err == nil {
		s.piece, err = s.to.Empty(ctx, s.begin.Add(enoughTime))
	}
	return err
}

// apart fills the piece, of which one row raises an error, with rows that are looked up by their
// keys. So the others have their entries. Snapshot stays the one that the pieces before have.
func (s *stream) apart(ctx context.Context, after, until []string, limit int) (Chunk, error) {
	if s.taken.Rows > 0 {
		after = s.taken.Upper
	}
	if !s.ties {
		// The one is the first after those that came.
		limit = min(limit, 2*s.rows+apartRows)
	}
	s.piece.Reset()
	params := chunkParams(limit, after, until)
	has := bounded{after: after != nil, until: until != nil}
	// Rows that are gone meanwhile must not have it run past where the chunk was said to end.
	last := s.taken.Last
	if last != nil {
		params, has.until = append(chunkParams(limit, after, nil), []byte(*last)), true
	}
	c, read, err := s.r.bare(ctx, s.r.bareChunk[has], params)
	if err != nil {
		return Chunk{}, err
	}
	c.End = c.Rows < limit && last == nil
	if s.taken.Rows > 0 {
		meta := s.taken.Meta
		if err := meta.extend(c.Meta); err != nil {
			return Chunk{}, err
		}
		c.Meta = meta
		if c.Rows == 0 {
			c.Upper = s.taken.Upper
		}
		c.Rows += s.taken.Rows
	}
	err = s.r.isolate(ctx, &c.Meta, read, s.piece)
	return c, err
}
