package fence

import (
	"fmt"
	"strconv"
	"strings"
)

// Fence says who may write: compared whole, so that another life of the database,
// another definition of the sink, another epoch or another holder all refuse.
type Fence struct {
	Incarnation string
	Definition  int32
	Epoch       int64
	Nonce       string
}

// String is the form in the control key.
func (f Fence) String() string {
	return f.Incarnation + " " + strconv.Itoa(int(f.Definition)) + " " + strconv.FormatInt(f.Epoch, 10) + " " + f.Nonce
}

// Parse reads what String wrote.
func Parse(s string) (Fence, error) {
	fields := strings.Split(s, " ")
	if len(fields) != 4 {
		return Fence{}, fmt.Errorf("fence %q: want incarnation, definition, epoch and nonce", s)
	}
	definition, err := strconv.ParseInt(fields[1], 10, 32)
	if err != nil {
		return Fence{}, fmt.Errorf("fence %q: definition: %w", s, err)
	}
	epoch, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return Fence{}, fmt.Errorf("fence %q: epoch: %w", s, err)
	}
	return Fence{Incarnation: fields[0], Definition: int32(definition), Epoch: epoch, Nonce: fields[3]}, nil
}

// Key is the control key of a lease: freshet:<installation>:<sink>:<part>.
func Key(installation string, sink int32, part string) string {
	return "freshet:" + installation + ":" + strconv.Itoa(int(sink)) + ":" + part
}

// OwnerKey is there while a sink of an installation owns its keys. Its value says which
// server's workers write them, as [OwnerValue].
func OwnerKey(installation string, sink int32) string { return Key(installation, sink, "owner") }

// OwnerValue is the value of the owner key while workers of this server, on this timeline,
// write for a sink. All their writers watch it: after a failover nobody who works for the
// former server can write anything more.
func OwnerValue(sink, incarnation string) string { return sink + " " + Server(incarnation) }

// OwnerServer is the server that a value of an owner key names, "" if it names none.
func OwnerServer(value string) string {
	_, server, _ := strings.Cut(value, " ")
	return server
}

// SameServer reports whether two incarnations are lives of one database on one timeline of
// one server.
func SameServer(a, b string) bool { return Server(a) == Server(b) }

// Server is the part of an incarnation that all lives of one database on one timeline of one
// server have in common.
func Server(incarnation string) string {
	return incarnation[:max(0, strings.LastIndexByte(incarnation, '.'))]
}
