package cursor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a pg_snapshot: which transactions had ended when it was taken.
type Snapshot struct {
	Xmin, Xmax uint64
	// Xip lists the running transactions in [Xmin, Xmax), ascending.
	Xip []uint64
}

// ParseSnapshot reads Postgres' text form, xmin:xmax:xip,xip,….
func ParseSnapshot(s string) (Snapshot, error) {
	fields := strings.Split(s, ":")
	if len(fields) != 3 {
		return Snapshot{}, fmt.Errorf("snapshot %q: want xmin:xmax:xip", s)
	}
	var (
		snap Snapshot
		err  error
	)
	if snap.Xmin, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: xmin: %w", s, err)
	}
	if snap.Xmax, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: xmax: %w", s, err)
	}
	if snap.Xmin > snap.Xmax {
		return Snapshot{}, fmt.Errorf("snapshot %q: xmin is above xmax", s)
	}
	if fields[2] == "" {
		return snap, nil
	}
	for field := range strings.SplitSeq(fields[2], ",") {
		xid, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot %q: xip: %w", s, err)
		}
		if xid < snap.Xmin || xid >= snap.Xmax || (len(snap.Xip) > 0 && xid <= snap.Xip[len(snap.Xip)-1]) {
			return Snapshot{}, fmt.Errorf("snapshot %q: xip %d is out of order", s, xid)
		}
		snap.Xip = append(snap.Xip, xid)
	}
	return snap, nil
}

// String is the form that ParseSnapshot and Postgres read.
func (s Snapshot) String() string {
	b := make([]byte, 0, 48)
	b = strconv.AppendUint(b, s.Xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.Xmax, 10)
	b = append(b, ':')
	for i, xid := range s.Xip {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return string(b)
}

// Sees reports whether transaction xid had ended in s.
func (s Snapshot) Sees(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}

// Covers reports whether s sees every transaction that inner sees.
func (s Snapshot) Covers(inner Snapshot) bool {
	if s.Xmax < inner.Xmax {
		return false
	}
	for _, xid := range s.Xip {
		if inner.Sees(xid) {
			return false
		}
	}
	return true
}
