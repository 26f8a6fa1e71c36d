package build

import (
	"runtime/debug"
	"testing"
)

func TestVersionIsThatOfWhoeverKnows(t *testing.T) {
	t.Parallel()
	git := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}
	alone := &debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.1.0"}, Settings: git}
	inside := &debug.BuildInfo{Main: debug.Module{Path: "example.com/shop", Version: "v7.0.0"}, Settings: git, Deps: []*debug.Module{{Path: module, Version: "v1.0.0"}}}
	for name, c := range map[string]struct {
		found *debug.BuildInfo
		set   string
		want  Info
	}{
		"by git":                 {alone, "", Info{Version: "v1.1.0", Revision: "abc", Modified: true}},
		"by whoever built it":    {alone, "v1.2.0", Info{Version: "v1.2.0", Revision: "abc", Modified: true}},
		"inside another program": {inside, "", Info{Version: "v1.0.0"}},
		"by nobody":              {nil, "", Info{}},
	} {
		got := read(c.found, c.set)
		if got.Go == "" {
			t.Errorf("%s: it has no version of Go", name)
		}
		if got.Go = ""; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	const want = "v1.2.0 (revision abc with changes, go1.26)"
	if got := (Info{"v1.2.0", "abc", true, "go1.26"}).String(); got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
	if got := (Info{Version: "(devel)", Go: "go1.26"}).String(); got != "unversioned (go1.26)" {
		t.Errorf("it prints %q", got)
	}
}
