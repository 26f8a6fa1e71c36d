// Package upkeep looks after capture: it has change tables rotated and gaps mended. What
// is to be done SQL decides, one worker at a time for each source; this package only asks.
package upkeep
