package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestVariablesOfTargetsAreReadByName(t *testing.T) {
	t.Parallel()
	const one, other = "redis://one:6379", "redis://other:6379"
	for name, c := range map[string]struct {
		environ map[string]string
		// served are the targets, or wrong is in the error.
		served []string
		wrong  []string
	}{
		"several":          {environ: map[string]string{"FRESHET_REDIS_URL": one, "FRESHET_REDIS_URL_EU_WEST": other}, served: []string{"default", "eu_west"}},
		"no name":          {environ: map[string]string{"FRESHET_REDIS_URL_1A": one}, wrong: []string{"FRESHET_REDIS_URL_1A"}},
		"nothing":          {environ: map[string]string{"FRESHET_REDIS_URL_": one}, wrong: []string{"FRESHET_REDIS_URL_:"}},
		"too long":         {environ: map[string]string{"FRESHET_REDIS_URL_" + strings.Repeat("A", 49): one}, wrong: []string{"FRESHET_REDIS_URL_A"}},
		"twice":            {environ: map[string]string{"FRESHET_REDIS_URL": one, "FRESHET_REDIS_URL_DEFAULT": other}, wrong: []string{"FRESHET_REDIS_URL and FRESHET_REDIS_URL_DEFAULT"}},
		"in two cases":     {environ: map[string]string{"FRESHET_REDIS_URL_EU": one, "FRESHET_REDIS_URL_eu": other}, wrong: []string{"FRESHET_REDIS_URL_EU and FRESHET_REDIS_URL_eu"}},
		"twice the same":   {environ: map[string]string{"FRESHET_REDIS_URL": one, "FRESHET_REDIS_URL_DEFAULT": one}, served: []string{"default"}},
		"of the platform":  {environ: map[string]string{"REDIS_URL": one, "FRESHET_REDIS_URL_DEFAULT": other}, served: []string{"default"}},
		"a loose list":     {environ: map[string]string{"FRESHET_REDIS_URL": one, "FRESHET_REDIS_URL_EU": other, "FRESHET_TARGETS": " EU , ,"}, served: []string{"eu"}},
		"a list of others": {environ: map[string]string{"FRESHET_REDIS_URL": one, "FRESHET_TARGETS": "default,us"}, wrong: []string{"FRESHET_TARGETS", "FRESHET_REDIS_URL_US"}},
	} {
		s, err := (&cli{environ: c.environ}).load()
		if err != nil && len(c.wrong) == 0 || err == nil && len(c.wrong) > 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range c.wrong {
			if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "redis://") {
				t.Errorf("%s: %v; want %q and no URL", name, err, text)
			}
		}
		if served := slices.Sorted(maps.Keys(s.urls)); err == nil && !slices.Equal(served, c.served) {
			t.Errorf("%s: %v are served; want %v", name, served, c.served)
		}
	}
}
