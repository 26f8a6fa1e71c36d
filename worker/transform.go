package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/transform"
)

// Record is a row of a source, with those columns that its sink selects. A column is decoded when it is asked for, and
// without reflection. It may be used until the function that was given it returns.
type Record = transform.Record

// Value is what an entry is made of: [JSON], [RawJSON], [Text], [Bytes] or [None].
type Value = transform.Value

// TransformFunc makes the value of one row. It must depend on nothing but the row: an entry is made again whenever
// Freshet sees fit, by any worker. It may be called by several goroutines at once.
//
// An error, a panic and a value of more than 128 MiB are failures of that entry alone: it is absent from the cache, shown
// in the view freshet.failures, and tried again. The context ends after a second; a function that waits for something
// has to heed it, because nothing can stop one that does not.
type TransformFunc = transform.Func

// JSON is v as encoding/json prints it, but for <, > and &, which stay as they are.
func JSON(v any) Value { return transform.JSON(v) }

// RawJSON is JSON that is made already. That it is not JSON is a failure of the entry.
func RawJSON(b []byte) Value { return transform.RawJSON(b) }

// Text is a text as it is.
func Text(s string) Value { return transform.Text(s) }

// Bytes are bytes as they are.
func Bytes(b []byte) Value { return transform.Bytes(b) }

// None means that the row has no entry.
func None() Value { return transform.None() }

// registered are the functions of this program.
var registered transform.Registry

// RegisterTransform gives sinks with transform => 'go:name' their function. Names begin with a lower-case letter and go
// on with up to 47 lower-case letters, digits and underscores. It is called before [New], usually by an init function,
// and panics if the name is not allowed or taken, or f is nil.
//
// A sink whose function no running worker has is unserved; workers that lack it leave its jobs to those that have it.
// Programs that differ in what a function does must not run at the same time under the same name: give a new version a
// new name and alter the sink.
func RegisterTransform(name string, f TransformFunc) {
	if err := registered.Register(name, f); err != nil {
		panic("freshet: " + err.Error())
	}
}

// lookAfterCalls fails while a function is past its time. It says the same for as long as that is so, and no key, which
// has values of columns.
func lookAfterCalls(context.Context) error {
	var names []string
	for _, c := range registered.Overdue(time.Now()) {
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("past its time is %s", strings.Join(slices.Compact(names), ", "))
}

// hung are calls that only a new process ends. Anybody may ask, so that keys are left out here too.
func hung() []string {
	var calls []string
	for _, c := range registered.Overdue(time.Now().Add(-health.Stalled)) {
		calls = append(calls, fmt.Sprintf("the Go transform %s has not returned for %s", c.Name, time.Since(c.Since).Round(time.Second)))
	}
	return calls
}
