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

// show draws how much is done of an estimated total.
func (p *progress) show(done, total int64) {
	if !p.terminal && time.Since(p.last) < time.Second {
		return
	}
	p.last = time.Now()
	share := 0.0
	if total > 0 {
		share = min(1, float64(done)/float64(total))
	}
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
		p.show(done, done)
		fmt.Fprintln(p.out)
	}
}
