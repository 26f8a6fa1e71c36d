package target_test

import (
	"os"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	serverstest.Shutdown()
	os.Exit(code)
}
