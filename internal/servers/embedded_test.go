package servers

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// maven serves an archive as Maven Central serves Postgres: in a .jar.
// testdata/postgres.txz holds shell scripts in bin/ with mode 0700, of which
// postgres says that it is 17.5.
func maven(t *testing.T, archive string) (url string) {
	t.Helper()
	txz, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	entry, err := z.Create("postgres-linux-x86_64.txz")
	if err == nil {
		_, err = entry.Write(txz)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(jar.Bytes())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestDownloadedPostgresIsThereForAllAndForNextTime(t *testing.T) {
	t.Parallel()
	repository, cache, quiet := maven(t, "testdata/postgres.txz"), t.TempDir(), slog.New(slog.DiscardHandler)
	var all sync.WaitGroup
	for range 3 { // demos started at one time
		all.Go(func() {
			if prog, err := fetchInto(t.Context(), quiet, cache, repository); err != nil || prog.version != "17.5" {
				t.Errorf("got %+v, %v", prog, err)
			}
		})
	}
	all.Wait()
	prog, err := fetchInto(t.Context(), quiet, cache, "http://127.0.0.1:1")
	if err != nil {
		t.Fatalf("with the binaries there: %v", err)
	}
	if info, err := os.Stat(prog.command); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, downloadDir+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFailedDownloadIsAnError(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	if _, err := fetchInto(t.Context(), quiet, t.TempDir(), "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "download postgres: ") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.CloseClientConnections)
	if _, err := fetchInto(ctx, quiet, t.TempDir(), hangs.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
