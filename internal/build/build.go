package build

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

const module = "github.com/freshet/freshet"

// version is set by whoever builds from sources that git knows nothing of, such as an image:
// -ldflags "-X github.com/freshet/freshet/internal/build.version=v1.2.3".
var version string

// Info is what is known of a build; what is not known is empty.
type Info struct {
	// Version is that of Freshet, also inside another program.
	Version string
	// Revision is the commit that it was built from. Modified: with changes.
	Revision string
	Modified bool
	// Go is the version of Go that built it.
	Go string
}

// Read reads it.
func Read() Info {
	found, _ := debug.ReadBuildInfo()
	return read(found, version)
}

// read takes a version that was set before the one that the go command knows.
func read(found *debug.BuildInfo, set string) Info {
	i := Info{Version: set, Go: runtime.Version()}
	if found == nil {
		return i
	}
	known := ""
	if found.Main.Path == module {
		known = found.Main.Version
		for _, s := range found.Settings {
			switch s.Key {
			case "vcs.revision":
				i.Revision = s.Value
			case "vcs.modified":
				i.Modified = s.Value == "true"
			}
		}
	}
	for _, dep := range found.Deps {
		if dep.Path == module {
			known = dep.Version
		}
	}
	if i.Version == "" {
		i.Version = known
	}
	return i
}

// String is a line for people.
func (i Info) String() string {
	version := i.Version
	if version == "" || version == "(devel)" {
		version = "unversioned"
	}
	parts := []string{i.Go}
	if i.Revision != "" {
		revision := "revision " + i.Revision
		if i.Modified {
			revision += " with changes"
		}
		parts = append([]string{revision}, parts...)
	}
	return fmt.Sprintf("%s (%s)", version, strings.Join(parts, ", "))
}
