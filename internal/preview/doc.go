// Package preview shows what rows would become under a sink, whether it exists or not. It
// reads as the workers do and writes nothing.
package preview
