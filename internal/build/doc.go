// Package build says which Freshet this is. It knows what the linker and the go command wrote
// into the program, and nothing else.
package build
