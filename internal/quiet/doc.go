// Package quiet keeps what goes on for long from filling the log. It owns when something is
// said, and when again; it must never keep the first word of anything to itself.
package quiet
