package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	serverstest.Shutdown()
	if dir := binaryDir; dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

var (
	buildOnce sync.Once
	binaryDir string
	binaryErr error
)

// binary builds the command once for all tests that need processes.
func binary(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		if binaryDir, binaryErr = os.MkdirTemp("", "freshet-bin-"); binaryErr != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(binaryDir, "freshet"), "../cmd/freshet")
		build.Stderr = os.Stderr
		binaryErr = build.Run()
	})
	if binaryErr != nil {
		t.Fatalf("build freshet: %v", binaryErr)
	}
	return filepath.Join(binaryDir, "freshet")
}
