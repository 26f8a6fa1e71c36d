package fence

// argument is a key or a value as go-redis takes it: one behind a pointer needs no memory of its
// own on the way, which a []byte in an interface does.
type argument []byte

// MarshalBinary returns the bytes.
func (a *argument) MarshalBinary() ([]byte, error) { return *a, nil }

// arguments is the memory for the commands of one transaction, used again for the next.
type arguments struct {
	values []argument
	lists  [][]any
	// used is how many of the lists are.
	used int
}

// reset makes room for the keys and values of so many entries.
func (a *arguments) reset(entries int) {
	if a.used = 0; cap(a.values) < 2*entries {
		a.values = make([]argument, 0, 2*entries)
	}
	a.values = a.values[:0]
}

// forget lets go of the keys and values, for a large one not to be kept by a writer that has nothing to do.
func (a *arguments) forget() { clear(a.values) }

// of is an argument for the present transaction. There must be room for it.
func (a *arguments) of(b []byte) *argument {
	a.values = append(a.values, b)
	return &a.values[len(a.values)-1]
}

// command begins the arguments of a command that is going to have so many.
func (a *arguments) command(name string, size int) []any {
	if a.used == len(a.lists) {
		a.lists = append(a.lists, nil)
	}
	list := &a.lists[a.used]
	a.used++
	if cap(*list) < 1+size {
		*list = make([]any, 0, 1+size)
	}
	return append((*list)[:0], name)
}
