package servers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestPostgres is the oldest major that Freshet supports.
const oldestPostgres = 14

// postgresPlaces are searched after PATH, one after the other: Debian and
// others keep the server's binaries where PATH does not lead.
var postgresPlaces = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/usr/pgsql-*/bin",
}

// findPostgres finds a server new enough, and initdb beside it.
func findPostgres(ctx context.Context) (program, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
		// A link in /usr/local/bin may stand alone, without initdb beside it.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, place := range postgresPlaces {
		found, _ := filepath.Glob(place) // errs on a bad pattern only
		// The number is where the * is, not one that a directory above may have.
		above, _, _ := strings.Cut(place, "*")
		major := func(dir string) int { return numberIn(strings.TrimPrefix(dir, above)) }
		slices.SortFunc(found, func(a, b string) int { return major(b) - major(a) })
		dirs = append(dirs, found...)
	}
	var tooOld string
	for _, dir := range dirs {
		prog, err := postgresIn(ctx, dir)
		if err != nil {
			continue
		}
		if numberIn(prog.version) >= oldestPostgres {
			return prog, nil
		}
		tooOld = fmt.Sprintf(" (%s is %s)", prog.command, prog.version)
	}
	return program{}, fmt.Errorf("no Postgres %d or later was found%s", oldestPostgres, tooOld)
}

// postgresIn returns the server of which dir holds the binaries.
func postgresIn(ctx context.Context, dir string) (program, error) {
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return program{}, err
	}
	return probe(ctx, filepath.Join(dir, "postgres"))
}

// findRedis finds redis-server, or Valkey, which is the same to Freshet.
func findRedis(ctx context.Context) (program, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if prog, err := probe(ctx, path); err == nil {
			return prog, nil
		}
	}
	return program{}, errors.New("no redis-server or valkey-server is on PATH")
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+|\d+(devel|beta\d+|rc\d+)`)

// probe asks a binary for its version, which also proves that it runs.
func probe(ctx context.Context, path string) (program, error) {
	// A relative entry in PATH means another place once a server has its own
	// working directory.
	path, err := filepath.Abs(path)
	if err != nil {
		return program{}, fmt.Errorf("find %s: %w", path, err)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return program{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return program{dir: filepath.Dir(path), command: path, version: versionNumber.FindString(string(out))}, nil
}

var digits = regexp.MustCompile(`\d+`)

// numberIn is the first number in s, so that 9.6 sorts below 15; 0 if none.
func numberIn(s string) int {
	n, _ := strconv.Atoi(digits.FindString(s))
	return n
}
