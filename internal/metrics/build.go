package metrics

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

const module = "github.com/freshet/freshet"

// build is the gauge that says which Freshet runs, as the main module or inside another
// program.
func build() prometheus.Collector {
	var version, revision, goVersion string
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
		if info.Main.Path == module {
			version = info.Main.Version
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					revision = s.Value
				}
			}
		}
		for _, dep := range info.Deps {
			if dep.Path == module {
				version = dep.Version
			}
		}
	}
	d := find(buildInfo)
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
	vec.WithLabelValues(version, revision, goVersion).Set(1)
	return vec
}
