package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// privateDirs lists those in a temporary directory.
func privateDirs(t *testing.T, base string) (found []string) {
	for _, prefix := range []string{postgresDir, redisDir} {
		some, err := filepath.Glob(filepath.Join(base, prefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, some...)
	}
	return found
}

// TestMain gives the package a temporary directory of its own, to see that the
// tests leave nothing in it.
func TestMain(m *testing.M) {
	if os.Getenv(diesInside) != "" {
		os.Exit(m.Run()) // in the directory of the test that runs it
	}
	dir, err := os.MkdirTemp("", "servers-test-")
	if err != nil {
		panic(err)
	}
	// The account that runs Postgres has to pass it.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	os.Setenv("TMPDIR", dir)
	code := m.Run()
	if left := privateDirs(nil, dir); len(left) > 0 {
		fmt.Println("left behind:", left)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}
