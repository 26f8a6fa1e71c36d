package source

import "github.com/freshet/freshet/internal/pg"

// MaxValue is the most bytes that a value can have. Redis refuses a string of more than
// 512 MB and closes the connection of whoever sends a gigabyte in one transaction; and a
// worker has parts of some batches in memory. A server can be told to take less; see [Reader.Hold].
const MaxValue = 128 << 20

// codeTooLarge is program_limit_exceeded, which Postgres says of a value that is too large
// for itself.
const codeTooLarge = "54000"

// codeTransform is raise_exception, which Postgres says of an error that a function raises.
const codeTransform = "P0001"

// codeNotUTF8 is character_not_in_repertoire.
const codeNotUTF8 = "22021"

// longest is the most bytes of a message: as many as the thousand characters that are kept can
// have.
const longest = 4000

// Failure is why there is no entry for a row: making it raises an error.
type Failure struct {
	Key string
	// Tuple are the texts of the key columns.
	Tuple []string
	// Code is the SQLSTATE.
	Code, Message string
}

// TupleLiteral is the tuple as a text[] of Postgres. Unlike JSON it leaves bytes that are
// no UTF-8 as they are.
func (f Failure) TupleLiteral() string { return string(arrayLiteral(f.Tuple)) }

// Failures are those of the entries in e. These entries must be absent.
func (e *Entries) Failures() []Failure {
	if len(e.failures) == 0 {
		return nil
	}
	var list []Failure
	for _, it := range e.items {
		if it.failed > 0 {
			list = append(list, e.failures[it.failed-1])
		}
	}
	return list
}

// Failed reports whether entry i is absent because making it raises an error.
func (e *Entries) Failed(i int) bool { return e.items[i].failed > 0 }

// fail appends an entry that must be absent because of an error.
func (e *Entries) fail(key []byte, tuple []string, code, message string) {
	e.failures = append(e.failures, Failure{Key: string(key), Tuple: tuple, Code: code, Message: pg.Text(message[:min(len(message), longest)])})
	e.absent(key)
	e.items[len(e.items)-1].failed = len(e.failures)
}

// absent appends an entry that must be absent.
func (e *Entries) absent(key []byte) {
	e.take()
	it := item{key: len(e.arena)}
	e.arena = append(e.arena, key...)
	it.value, it.end = len(e.arena), len(e.arena)
	e.items = append(e.items, it)
}

// mark is a place in Entries to rewind to.
type mark struct{ arena, items, failures int }

func (e *Entries) mark() mark { return mark{len(e.arena), len(e.items), len(e.failures)} }

// rewind forgets what was appended since.
func (e *Entries) rewind(m mark) {
	e.arena, e.items, e.failures = e.arena[:m.arena], e.items[:m.items], e.failures[:m.failures]
}
