package cursor

import (
	"fmt"
	"strconv"
	"strings"
)

// Cursor is how far a lane has come: every change that Done sees is applied, and of
// the changes that Window sees beyond those, the ones up to (Xid, ID) in that order.
type Cursor struct {
	Done Snapshot
	// Window is the snapshot under which a backlog larger than a batch is walked, nil
	// between windows.
	Window *Snapshot
	Xid    uint64
	ID     int64
}

// Parse reads what String wrote: a snapshot, or a snapshot, a window, an xid and an
// id with spaces between them.
func Parse(s string) (Cursor, error) {
	fields := strings.Split(s, " ")
	if len(fields) != 1 && len(fields) != 4 {
		return Cursor{}, fmt.Errorf("cursor %q: want a snapshot, or a snapshot, a window, an xid and an id", s)
	}
	var (
		c   Cursor
		err error
	)
	if c.Done, err = ParseSnapshot(fields[0]); err != nil {
		return Cursor{}, fmt.Errorf("cursor: %w", err)
	}
	if len(fields) == 1 {
		return c, nil
	}
	window, err := ParseSnapshot(fields[1])
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor: window: %w", err)
	}
	c.Window = &window
	if c.Xid, err = strconv.ParseUint(fields[2], 10, 64); err != nil {
		return Cursor{}, fmt.Errorf("cursor %q: xid: %w", s, err)
	}
	if c.ID, err = strconv.ParseInt(fields[3], 10, 64); err != nil {
		return Cursor{}, fmt.Errorf("cursor %q: id: %w", s, err)
	}
	return c, nil
}

// String is the form that Parse reads; it is stored in control keys and in Postgres.
func (c Cursor) String() string {
	if c.Window == nil {
		return c.Done.String()
	}
	return c.Done.String() + " " + c.Window.String() + " " +
		strconv.FormatUint(c.Xid, 10) + " " + strconv.FormatInt(c.ID, 10)
}

// Finished is the cursor after the last change of window.
func Finished(window Snapshot) Cursor { return Cursor{Done: window} }

// At is the cursor inside window, after change (xid, id).
func (c Cursor) At(window Snapshot, xid uint64, id int64) Cursor {
	return Cursor{Done: c.Done, Window: &window, Xid: xid, ID: id}
}
