package quiet_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet/freshet/internal/quiet"
)

// told is a log, and what was said since the last look.
type told struct{ bytes.Buffer }

func (b *told) logger(wrap func(slog.Handler) slog.Handler) *slog.Logger {
	return slog.New(wrap(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
}

func (b *told) expect(t *testing.T, lines ...string) {
	t.Helper()
	want := ""
	for _, l := range lines {
		want += l + "\n"
	}
	if got := b.String(); got != want {
		t.Errorf("it said\n%swant\n%s", got, want)
	}
	b.Reset()
}

func plain(h slog.Handler) slog.Handler { return h }

func TestTroubleIsToldWhenItBeginsChangesGoesOnAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said told
		trouble := quiet.NewTrouble(said.logger(plain), "it fails", "it works")
		away := func(port int) error { return fmt.Errorf("read 127.0.0.1:%d: reset", port) }
		trouble.Note(nil)
		said.expect(t)
		// The port on this side is another one each time.
		for i := range 60 {
			trouble.Note(away(40000 + i))
			time.Sleep(time.Second)
		}
		said.expect(t, `level=WARN msg="it fails" err="read 127.0.0.1:40000: reset"`)
		trouble.Note(errors.New("denied"))
		said.expect(t, `level=WARN msg="it fails" err=denied`)
		// In turn they are nothing new.
		for range 100 {
			trouble.Note(away(1))
			trouble.Note(errors.New("denied"))
			time.Sleep(time.Second)
		}
		said.expect(t)
		time.Sleep(10 * time.Minute)
		trouble.Note(away(2))
		trouble.Note(away(3))
		said.expect(t, `level=WARN msg="it fails" err="read 127.0.0.1:2: reset"`)
		trouble.Note(nil)
		trouble.Note(nil)
		said.expect(t, `level=INFO msg="it works"`)
		trouble.Note(away(4))
		said.expect(t, `level=WARN msg="it fails" err="read 127.0.0.1:4: reset"`)
	})
}

func TestErrorsThatAreAllDifferentAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said told
		trouble := quiet.NewTrouble(said.logger(plain), "it fails", "it works")
		for i := range 600 {
			trouble.Note(fmt.Errorf("attempt %d", i))
			time.Sleep(time.Second)
		}
		if n := strings.Count(said.String(), "\n"); n > 20 {
			t.Errorf("%d lines in ten minutes", n)
		}
	})
}

func TestEachMessageOfALibraryComesOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said told
		log := said.logger(quiet.Handler)
		for i := range 59 {
			log.Error("fetching failed", "queue", i)
			log.With("queue", i).WithGroup("g").Error("fetching failed")
			time.Sleep(time.Second)
		}
		log.Error("electing failed")
		said.expect(t, `level=ERROR msg="fetching failed" queue=0`, `level=ERROR msg="electing failed"`)
		time.Sleep(time.Second)
		log.Error("fetching failed", "queue", 7)
		log.Error("electing failed")
		said.expect(t, `level=ERROR msg="fetching failed" queue=7`)
	})
}
