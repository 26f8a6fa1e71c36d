package transform

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/render"
)

// ErrUnregistered is in the chain when a sink wants a function of Go that is not there.
var ErrUnregistered = errors.New("this program has not registered it")

// goPrefix stands before the name of a function of Go where an expression may stand.
const goPrefix = "go:"

// functionName is what may stand behind it.
var functionName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Registry holds functions of Go by name. Its zero value has none, and so does nil. It is safe for concurrent use.
type Registry struct {
	mu    sync.RWMutex
	funcs map[string]Func
	calls calls
}

// Register adds a function. A name that is taken or not allowed is an error.
func (r *Registry) Register(name string, f Func) error {
	if !functionName.MatchString(name) {
		return fmt.Errorf("transform %q: begin its name with a lower-case letter and go on with up to 47 lower-case letters, digits and underscores", name)
	}
	if f == nil {
		return fmt.Errorf("transform %q: its function is nil", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.funcs[name]; taken {
		return fmt.Errorf("transform %q is registered already", name)
	}
	if r.funcs == nil {
		r.funcs = make(map[string]Func)
	}
	r.funcs[name] = f
	return nil
}

// Names are the names of all functions, in order.
func (r *Registry) Names() []string {
	if r == nil {
		return []string{}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := slices.AppendSeq(make([]string, 0, len(r.funcs)), maps.Keys(r.funcs))
	slices.Sort(names)
	return names
}

// New makes what a sink's transform says: a function of Go, or an expression. See [Compile] and [Func].
func (r *Registry) New(text string, columns []render.Column, sink string) (Transform, error) {
	name, isGo := strings.CutPrefix(text, goPrefix)
	if !isGo {
		return Compile(text, columns, sink)
	}
	var f Func
	if r != nil {
		r.mu.RLock()
		f = r.funcs[name]
		r.mu.RUnlock()
	}
	if f == nil {
		return nil, fmt.Errorf("the Go transform %s: %w", name, ErrUnregistered)
	}
	return newGo(name, f, columns, sink, &r.calls), nil
}

// Overdue is a call that is past its time limit and has not returned.
type Overdue struct {
	Name  string
	Since time.Time
}

// Overdue lists them. Nothing can stop such a call, and the rows behind it wait; whoever watches the worker must say
// so.
func (r *Registry) Overdue(now time.Time) []Overdue { return r.calls.overdue(now) }

// calls are those that run now.
type calls struct {
	mu   sync.Mutex
	busy map[*goRun]struct{}
}

func (c *calls) begin(r *goRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy == nil {
		c.busy = make(map[*goRun]struct{})
	}
	c.busy[r] = struct{}{}
}

func (c *calls) end(r *goRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, r)
}

func (c *calls) overdue(now time.Time) []Overdue {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Overdue
	for r := range c.busy {
		if now.Sub(r.started) > r.g.timeout {
			list = append(list, Overdue{Name: r.g.name, Since: r.started})
		}
	}
	return list
}
