// Package health says over HTTP whether a worker lives and whether it can do its work, and
// why not. It only asks: it repairs nothing, and no answer of its own ever hangs on a
// server that hangs.
package health
