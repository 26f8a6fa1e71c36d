package fence

// part are entries in a row, for one transaction.
type part struct {
	Entries
	from, to int
}

// next moves on to those that follow: more bytes than execBytes only if one entry alone has them.
func (p *part) next() {
	p.from = p.to
	for size := 0; p.to < p.Entries.Len() && p.to-p.from < execEntries; p.to++ {
		value, _ := p.Entries.Value(p.to)
		if size += len(p.Entries.Key(p.to)) + len(value); size > execBytes && p.to > p.from {
			return
		}
	}
}

// Len is the number of entries.
func (p part) Len() int { return p.to - p.from }

// Key returns the key of entry i.
func (p part) Key(i int) []byte { return p.Entries.Key(p.from + i) }

// Value returns the value of entry i, and false if the entry must be absent.
func (p part) Value(i int) ([]byte, bool) { return p.Entries.Value(p.from + i) }

// Expires is when entry i expires.
func (p part) Expires(i int) int64 { return p.Entries.Expires(p.from + i) }
