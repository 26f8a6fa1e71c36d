package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script puts an executable shell script in place.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// fakePostgres puts a server of a version in dir.
func fakePostgres(t *testing.T, dir, version string) {
	t.Helper()
	script(t, filepath.Join(dir, "postgres"), fmt.Sprintf("echo 'postgres (PostgreSQL) %s (Debian %[1]s-1.pgdg120+1)'", version))
	script(t, filepath.Join(dir, "initdb"), "")
}

func TestFindPostgres(t *testing.T) {
	places := postgresPlaces
	t.Cleanup(func() { postgresPlaces = places })
	for _, test := range []struct {
		name    string
		path    map[string]string // directory on PATH → version
		places  map[string]string // the same, below the searched places
		want    string            // directory, or part of the error
		version string
	}{
		{name: "PATH before the places", path: map[string]string{"p": "14.2"}, places: map[string]string{"lib/17/bin": "17.1"}, want: "p", version: "14.2"},
		{name: "highest major, by number", places: map[string]string{"lib/9.6/bin": "9.6.24", "lib/14/bin": "14.2", "lib/18/bin": "18beta1"}, want: "lib/18/bin", version: "18beta1"},
		{name: "earlier place before a higher major", places: map[string]string{"lib/15/bin": "15.18", "brew@17/bin": "17.1"}, want: "lib/15/bin", version: "15.18"},
		{name: "too old on PATH is passed over", path: map[string]string{"p": "13.9"}, places: map[string]string{"brew@16/bin": "16.0"}, want: "brew@16/bin", version: "16.0"},
		{name: "too old is said", places: map[string]string{"lib/13/bin": "13.9"}, want: "lib/13/bin/postgres is 13.9"},
		{name: "none", want: "no Postgres 14 or later was found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			postgresPlaces = []string{filepath.Join(root, "lib/*/bin"), filepath.Join(root, "brew@*/bin")}
			path := []string{filepath.Join(root, "nothing")}
			for dir, version := range test.path {
				fakePostgres(t, filepath.Join(root, dir), version)
				path = append(path, filepath.Join(root, dir))
			}
			for dir, version := range test.places {
				fakePostgres(t, filepath.Join(root, dir), version)
			}
			t.Setenv("PATH", strings.Join(path, ":"))
			got, err := findPostgres(t.Context())
			if test.version == "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil || got.dir != filepath.Join(root, test.want) || got.version != test.version {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestFindPostgresBehindALink(t *testing.T) {
	places := postgresPlaces
	t.Cleanup(func() { postgresPlaces = places })
	postgresPlaces = nil
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fakePostgres(t, filepath.Join(root, "real"), "16.1")
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../real/postgres", filepath.Join(root, "bin/postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(root, "bin"))
	got, err := findPostgres(t.Context())
	if err != nil || got.dir != filepath.Join(root, "real") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFindRedisTakesValkeyToo(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", root)
	if got, err := findRedis(t.Context()); err == nil {
		t.Errorf("got %+v", got)
	}
	script(t, filepath.Join(root, "valkey-server"), "echo 'Valkey server v=8.0.1 sha=00000000:0'")
	if got, err := findRedis(t.Context()); err != nil || got.version != "8.0.1" {
		t.Errorf("got %+v, %v", got, err)
	}
	script(t, filepath.Join(root, "redis-server"), "echo 'Redis server v=7.0.15 sha=00000000:0'")
	if got, err := findRedis(t.Context()); err != nil || got.version != "7.0.15" {
		t.Errorf("got %+v, %v", got, err)
	}
}
