package servers

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweepTakesOnlyWhatADeadOwnerLeft(t *testing.T) {
	base := t.TempDir()
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", base)
	live, err := newPrivateDir(postgresDir, false)
	if err != nil {
		t.Fatal(err)
	}
	// leave makes a directory as a dead owner would leave it.
	leave := func(name, owner string, age time.Duration) string {
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if owner != "-" {
			file := filepath.Join(dir, ownerFile)
			if err := errors.Join(os.WriteFile(file, []byte(owner), 0o600), os.Chtimes(file, then, then)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	stays := map[string]string{
		"live":              live.path,
		"about to be owned": leave(redisDir+"1", "", 0),
		"just made":         leave(redisDir+"2", "-", 0),
		"another's name":    leave("freshet-other", "1\n", 0),
	}
	goes := map[string]string{
		"dead":               leave(postgresDir+"3", "1\n", 0),
		"dead before owning": leave(redisDir+"4", "", 2*time.Hour),
		"dead at once":       leave(redisDir+"5", "-", 2*time.Hour),
	}
	if os.Geteuid() == 0 {
		stays["another user's"] = leave(postgresDir+"6", "1\n", 0)
		if err := os.Chown(stays["another user's"], 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	sweep(base)
	for what, dir := range stays {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, dir := range goes {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", what, err)
		}
	}
	if err := live.remove(); err != nil {
		t.Error(err)
	}
}

func TestRootAvoidsATemporaryDirectoryOthersCannotPass(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Setenv("TMPDIR", "/nonexistent") // nothing to avoid; taken as it is
		if got := temporary(); got != "/nonexistent" {
			t.Errorf("got %s", got)
		}
		return
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", closed)
	if got := temporary(); got != "/tmp" {
		t.Errorf("got %s", got)
	}
}
