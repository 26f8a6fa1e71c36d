package servers

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// embeddedVersion is the Postgres that a demo downloads.
const embeddedVersion = embedded.V17

// downloadDir is the prefix of a directory that a download is at work in.
const downloadDir = "download-"

// repository is where the binaries come from: Maven Central.
const repository = "https://repo1.maven.org/maven2"

// fetchPostgres downloads Postgres binaries, once per machine and version.
func fetchPostgres(ctx context.Context, log *slog.Logger) (program, error) {
	cache, err := binaryCache()
	if err != nil {
		return program{}, fmt.Errorf("find a place for postgres binaries: %w", err)
	}
	return fetchInto(ctx, log, cache, repository)
}

// fetchInto only fetches. The library's own way to run what it fetched is not
// used: it cannot do it for root, and its servers outlive us.
func fetchInto(ctx context.Context, log *slog.Logger, cache, repository string) (program, error) {
	home := filepath.Join(cache, "postgres-"+string(embeddedVersion))
	if prog, err := postgresIn(ctx, filepath.Join(home, "bin")); err == nil {
		return prog, nil
	}
	log.Info("downloading postgres", "version", string(embeddedVersion), "to", home)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return program{}, fmt.Errorf("make a place for postgres binaries: %w", err)
	}
	clearDownloads(cache)
	staging, err := os.MkdirTemp(cache, downloadDir)
	if err != nil {
		return program{}, fmt.Errorf("make a place for postgres binaries: %w", err)
	}
	defer func() {
		// After a Ctrl-C the library is still at it, and panics when its files
		// vanish; then the next download clears up.
		if ctx.Err() == nil {
			_ = os.RemoveAll(staging)
		}
	}()
	if err := download(ctx, staging, repository); err != nil {
		return program{}, fmt.Errorf("download postgres: %w", err)
	}
	// Another process may have been faster, and be running its binaries now.
	if prog, err := postgresIn(ctx, filepath.Join(home, "bin")); err == nil {
		return prog, nil
	}
	_ = os.RemoveAll(home) // binaries that do not run
	// In one step, so that nobody meets half of it.
	renameErr := os.Rename(filepath.Join(staging, "binaries"), home)
	prog, err := postgresIn(ctx, filepath.Join(home, "bin"))
	if err != nil {
		return program{}, fmt.Errorf("use downloaded postgres: %w (%v)", err, renameErr)
	}
	return prog, nil
}

// download fills staging/binaries. The library only downloads on the way to a
// start, so it is given a data directory that no server can start from: it
// fails there, with all we wanted done. What counts is what is on the disk.
func download(ctx context.Context, staging, repository string) error {
	binaries, data := filepath.Join(staging, "binaries"), filepath.Join(staging, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(digits.FindString(string(embeddedVersion))), 0o600); err != nil {
		return err
	}
	port, err := freePort() // the library looks, though it never gets there
	if err != nil {
		return err
	}
	library := embedded.NewDatabase(embedded.DefaultConfig().Version(embeddedVersion).Port(uint32(port)).
		CachePath(filepath.Join(staging, "archive")).RuntimePath(filepath.Join(staging, "runtime")).
		BinariesPath(binaries).DataPath(data).BinaryRepositoryURL(repository).Logger(io.Discard))
	done := make(chan error, 1)
	go func() { done <- library.Start() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err() // the library knows no context; the download ends with us
	}
	if _, statErr := os.Stat(filepath.Join(binaries, "bin", "initdb")); statErr != nil {
		return err
	}
	return readableByAll(binaries)
}

// clearDownloads removes what an interrupted download left behind.
func clearDownloads(cache string) {
	old, _ := filepath.Glob(filepath.Join(cache, downloadDir+"*")) // errs on a bad pattern only
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.RemoveAll(path)
		}
	}
}

// readableByAll undoes a strict umask: another account runs these binaries.
func readableByAll(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		add := fs.FileMode(0o444)
		if d.IsDir() || info.Mode()&0o100 != 0 {
			add = 0o555
		}
		return os.Chmod(path, info.Mode().Perm()|add)
	})
}

// binaryCache is where downloads stay. Root's own cache would be out of reach
// for the account that runs Postgres.
func binaryCache() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/freshet", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "freshet"), err
}
