package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/internal/build"
)

// buildGauge is the gauge that says which Freshet runs, as the main module or inside another
// program.
func buildGauge() prometheus.Collector {
	info := build.Read()
	d := find(buildInfo)
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
	vec.WithLabelValues(info.Version, info.Revision, info.Go).Set(1)
	return vec
}
