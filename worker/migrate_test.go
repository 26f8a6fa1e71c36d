package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// Programs that start together each call it.
func TestMigrateInstallsOnceWhoeverCalls(t *testing.T) {
	t.Parallel()
	databaseURL := serverstest.Postgres(t)
	var (
		said [3]bytes.Buffer
		all  sync.WaitGroup
	)
	for i := range said {
		all.Go(func() {
			if err := Migrate(t.Context(), databaseURL, slog.New(slog.NewTextHandler(&said[i], nil))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := strings.Count(said[0].String()+said[1].String()+said[2].String(), "name=tables"); n != 1 {
		t.Errorf("installed %d times:\n%s%s%s", n, &said[0], &said[1], &said[2])
	}
	w, err := New(t.Context(), Config{DatabaseURL: databaseURL, Targets: map[string]string{"default": serverstest.Redis(t)}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := Migrate(t.Context(), "postgres://127.0.0.1:1/none", nil); err == nil || !strings.Contains(err.Error(), "connect to Postgres") {
		t.Errorf("where no server is: %v", err)
	}
}
