package backfill

import (
	"context"
	"time"

	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/source"
)

// part is what is looked through together before it is written: as much of a chunk as is known
// when the first of it is sent.
type part struct {
	// chunk is what it is a part of; first that it begins with it.
	chunk source.Meta
	first bool
	// lower is the tuple before its first row.
	lower  []string
	pieces []source.Piece
	// end: no row of the range comes after it.
	end bool
}

func (p *part) rows() int {
	n := 0
	for _, piece := range p.pieces {
		n += piece.Rows
	}
	return n
}

// upper is the tuple of the last row, nil without rows.
func (p *part) upper() (tuple []string) {
	for _, piece := range p.pieces {
		if piece.Rows > 0 {
			tuple = piece.Upper
		}
	}
	return tuple
}

// feed makes parts of the pieces of chunks.
type feed struct {
	*walk
	free  <-chan *source.Entries
	parts chan<- *part
	// after is the tuple before the next row, first that it is the first of a chunk.
	after []string
	first bool
	// part is the one that was begun, with so many bytes in it.
	part *part
	size int
	// chunkBytes is the size of the chunk so far.
	chunkBytes int
	// rows and bytes are those of a piece.
	rows, bytes int
}

// queues are for pieces that can be filled, all of them to begin with, and for parts that are to be written. Whoever reads
// waits for the former alone: where there is none its chunk ends, and so parts never have to wait for room.
func queues() (free chan *source.Entries, parts chan *part) {
	free, parts = make(chan *source.Entries, inMemory), make(chan *part, inMemory+1)
	for range cap(free) {
		free <- spare.Get().(*source.Entries)
	}
	return free, parts
}

// Empty waits for a piece that has been written.
func (f *feed) Empty(ctx context.Context, until time.Time) (*source.Entries, error) {
	if f.rows, f.bytes = pieceRows, pieceBytes; f.r.Traffic.Crowded() {
		f.rows, f.bytes = crowdedRows, crowdedBytes
	}
	var late <-chan time.Time
	if !until.IsZero() {
		late = time.After(time.Until(until))
	}
	select {
	case e := <-f.free:
		e.Reset()
		return e, nil
	case <-late:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Full reports whether a piece is.
func (f *feed) Full(rows, bytes int) bool { return rows >= f.rows || bytes >= f.bytes }

// Take puts a piece into a part.
func (f *feed) Take(ctx context.Context, p source.Piece) error {
	if p.Incarnation != f.own.Incarnation {
		return durable.ErrReincarnated
	}
	if f.part == nil {
		f.part, f.size = &part{chunk: p.Meta, first: f.first, lower: f.after}, 0
		f.first = false
	}
	f.part.pieces = append(f.part.pieces, p)
	if p.Rows > 0 {
		f.after = p.Upper
	}
	f.chunkBytes += p.Entries.Bytes()
	if f.size += p.Entries.Bytes(); len(f.part.pieces) < partPieces && f.size < partBytes {
		return nil
	}
	return f.flush(ctx, false)
}

// flush hands over the part that was begun, at the end of the range even if there is none.
func (f *feed) flush(ctx context.Context, end bool) error {
	p := f.part
	if p == nil && !end {
		return nil
	}
	if p == nil {
		p = &part{}
	}
	p.end, f.part = end, nil
	select {
	case f.parts <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
