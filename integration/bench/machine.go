package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	// quiet is which part of the processors others may have of what is wanted: a machine that is another's half of the time
	// shows how long it lets one wait. A round of latencies that had more of it is measured again, at most again times as many
	// as are asked for.
	quiet = 0.05
	again = 3
)

// machine is one line of what was measured on. Figures of different lines are not to be compared.
func (s *stage) machine(ctx context.Context) (string, error) {
	version, err := one[string](ctx, s, "select setting from pg_settings where name = 'server_version'")
	if err != nil {
		return "", err
	}
	info, err := s.cache.InfoMap(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	flush, err := flushTime(filepath.Join(s.dir, "flush"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("on %d cores (%s), %s; %s/%s; Postgres %s, Redis %s; a flush of 8 kB to disk takes %.2f ms", runtime.NumCPU(),
		field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"), runtime.GOOS, runtime.GOARCH, version, info["Server"]["redis_version"], flush), nil
}

// field is what a file of lines "name: value" says, "?" where there is none.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

// others says which part of the processor time that was wanted during body went to others on the same hardware: 0 to 1, and 0 where the
// system does not tell.
func others(body func() error) (share float64, err error) {
	wantedBefore, stolenBefore := processors()
	if err := body(); err != nil {
		return 0, err
	}
	wanted, stolen := processors()
	if wanted == wantedBefore {
		return 0, nil
	}
	return (stolen - stolenBefore) / (wanted - wantedBefore), nil
}

// processors is how much time of all processors has been wanted since the system started, and how much of it others had, in ticks.
func processors() (wanted, stolen float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	var user, nice, system, idle, wait, hard, soft, steal float64
	if _, err := fmt.Sscanf(string(text), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &wait, &hard, &soft, &steal); err != nil {
		return 0, 0
	}
	return user + nice + system + hard + soft + steal, steal
}

// flushTime is the median of how long it takes until 8 kB are on disk, in milliseconds.
func flushTime(name string) (float64, error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var took series
	for range 50 {
		begin := time.Now()
		if _, err := f.WriteAt(make([]byte, 8192), 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, milliseconds(time.Since(begin)))
	}
	return took.median(), nil
}
