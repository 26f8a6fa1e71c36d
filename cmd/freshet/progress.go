package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is a bar on a terminal, and a line a second elsewhere.
type progress struct {
	out      io.Writer
	what     string
	terminal bool
	began    time.Time
	last     time.Time
}

func newProgress(out io.Writer, what string) *progress {
	p := &progress{out: out, what: what, began: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const barWidth = 40

// show draws how much is done of an estimated total. As long as there is more to do that is
// not all of it, whatever the estimate was.
func (p *progress) show(done, total int64) {
	if !p.terminal && time.Since(p.last) < time.Second {
		return
	}
	share := 0.0
	if total > 0 {
		share = min(0.99, float64(done)/float64(total))
	}
	p.draw(share, done, total)
}

func (p *progress) draw(share float64, done, total int64) {
	p.last = time.Now()
	rate := float64(done) / max(time.Since(p.began).Seconds(), 0.001)
	if !p.terminal {
		fmt.Fprintf(p.out, "%s: %d of about %d rows, %.0f/s\n", p.what, done, total, rate)
		return
	}
	full := int(share * barWidth)
	fmt.Fprintf(p.out, "\r%s [%s%s] %3.0f %%  %d rows, %.0f/s  ", p.what,
		strings.Repeat("#", full), strings.Repeat(".", barWidth-full), share*100, done, rate)
}

// interrupt leaves the bar as it is, for a line that follows.
func (p *progress) interrupt() {
	if p.terminal && !p.last.IsZero() {
		fmt.Fprintln(p.out)
	}
	p.last = time.Time{}
}

// finish completes the bar.
func (p *progress) finish(done int64) {
	if p.terminal {
		p.draw(1, done, done)
		fmt.Fprintln(p.out)
	}
}
