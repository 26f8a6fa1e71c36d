package main

import (
	"strings"
	"testing"
)

func TestWhatIsNotDoneIsNotAllOfIt(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := newProgress(&out, "warming")
	p.terminal = true
	p.show(150, 150)
	if strings.Contains(out.String(), "100 %") || !strings.Contains(out.String(), " 99 %") {
		t.Errorf("in the middle it shows %q", out.String())
	}
	p.finish(200)
	if !strings.Contains(out.String(), "100 %  200 rows") {
		t.Errorf("at the end it shows %q", out.String())
	}
}
