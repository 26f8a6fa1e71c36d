package servers

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// TestChoice is the table in doc.go.
func TestChoice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		purpose    Purpose
		installed  bool
		installs   bool // the package manager succeeds
		works      bool // and then the binaries are there
		docker     bool
		want       source
		fails      bool
		wantsAsked []string
	}{
		{name: "demo takes binaries first", purpose: Demo, installed: true, docker: true, want: fromBinaries, wantsAsked: []string{"find"}},
		{name: "demo takes Docker next", purpose: Demo, installs: true, works: true, docker: true, want: fromDocker, wantsAsked: []string{"find", "docker"}},
		{name: "demo falls back and installs nothing", purpose: Demo, installs: true, works: true, want: fromFallback, wantsAsked: []string{"find", "docker"}},
		{name: "test takes binaries first", purpose: Test, installed: true, docker: true, want: fromBinaries, wantsAsked: []string{"find"}},
		{name: "test installs next", purpose: Test, installs: true, works: true, docker: true, want: fromBinaries, wantsAsked: []string{"find", "install", "find"}},
		{name: "test takes Docker if it cannot install", purpose: Test, docker: true, want: fromDocker, wantsAsked: []string{"find", "install", "docker"}},
		{name: "test takes Docker if the package is no use", purpose: Test, installs: true, docker: true, want: fromDocker, wantsAsked: []string{"find", "install", "find", "docker"}},
		{name: "test has no fallback", purpose: Test, fails: true, wantsAsked: []string{"find", "install", "docker"}},
	} {
		for _, product := range []string{"postgres", "redis"} {
			t.Run(test.name+"/"+product, func(t *testing.T) {
				t.Parallel()
				var asked []string
				there := test.installed
				find := func(context.Context) (program, error) {
					asked = append(asked, "find")
					if !there {
						return program{}, errors.New("not found")
					}
					return program{command: product}, nil
				}
				wrong := func(context.Context) (program, error) {
					t.Error("looked for the other product")
					return program{}, nil
				}
				m := machine{postgres: find, redis: wrong}
				if product == "redis" {
					m = machine{postgres: wrong, redis: find}
				}
				m.install = func(_ context.Context, _ *slog.Logger, what string, _ func() bool) error {
					asked = append(asked, "install")
					if what != product {
						t.Errorf("installs %s", what)
					}
					if !test.installs {
						return errors.New("not allowed\nat all")
					}
					there = test.works
					return nil
				}
				m.docker = func(context.Context) error {
					asked = append(asked, "docker")
					if !test.docker {
						return errors.New("no\nanswer")
					}
					return nil
				}
				got, prog, err := m.choose(t.Context(), slog.New(slog.DiscardHandler), test.purpose, product)
				if !slices.Equal(asked, test.wantsAsked) {
					t.Errorf("asked %v, want %v", asked, test.wantsAsked)
				}
				if test.fails {
					if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "install "+needed[product]+" or start Docker") {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil || got != test.want {
					t.Errorf("got %v, %v, want %v", got, err, test.want)
				}
				if got == fromBinaries && prog.command != product {
					t.Errorf("got program %+v", prog)
				}
			})
		}
	}
}

func TestCancelledChoiceDownloadsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := machine{
		postgres: func(context.Context) (program, error) { return program{}, errors.New("none") },
		docker:   func(context.Context) error { cancel(); return errors.New("none") },
	}
	if _, err := m.startPostgres(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDockerCheckIsQuickAndSafe(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
	// Any answer will do: a machine may have another daemon to find. What may
	// not happen is a panic, or a wait.
	ctx, cancel := context.WithTimeout(t.Context(), dockerPatience*2)
	defer cancel()
	err := dockerAnswers(ctx)
	if ctx.Err() != nil {
		t.Errorf("took too long: %v", err)
	}
}
