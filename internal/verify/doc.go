// Package verify compares a sink's table with its entries, both ways, while both are
// being written to. What differs at first sight is only a suspect: it is looked at
// again once the lanes have passed the moment of the look, and counts when nothing
// touched it since.
package verify
