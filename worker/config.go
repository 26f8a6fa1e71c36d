package worker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/target"
)

// Config says what a worker works on. Only DatabaseURL and Targets are needed.
type Config struct {
	// DatabaseURL is the Postgres database that Freshet is installed in.
	DatabaseURL string

	// Targets holds the URL (redis:// or rediss://) of each target that this worker
	// serves, by name. Sinks that say nothing about targets use "default".
	Targets map[string]string

	// TLS holds for targets with a rediss:// URL what the URL cannot say: a private CA, a
	// client certificate.
	//
	// Defaults to the system's CAs and no client certificate.
	TLS map[string]*tls.Config

	// HTTPAddr is where /healthz, /readyz and /metrics are served, such as ":9090". New
	// begins to listen, Close and the end of Run or Drain stop it.
	//
	// Defaults to none; [Worker.Handler] serves the same on a server of your own.
	HTTPAddr string

	// Concurrency bounds over how many connections lanes read from Postgres at a time. Idle lanes
	// need none, one that is far behind can use three. Half as many ranges of backfills, and at
	// least two, are worked on beside them.
	//
	// Defaults to 4.
	Concurrency int

	// PollOnly does without LISTEN and NOTIFY: changes are found by a look each second
	// and jobs by polling.
	//
	// Defaults to false; a worker that does not get its own notifications back at the
	// start polls by itself.
	PollOnly bool

	// Logger receives a line for every event a person would act on.
	//
	// Defaults to slog.Default().
	Logger *slog.Logger

	// slice is about how long a job works before it hands over. Tests shorten it.
	slice time.Duration
}

const (
	defaultConcurrency = 4
	defaultSlice       = 30 * time.Second
)

// withDefaults checks c and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	if c.DatabaseURL == "" {
		return c, errors.New("DatabaseURL is empty: give the URL of the database that Freshet is installed in")
	}
	if len(c.Targets) == 0 {
		return c, errors.New("Targets is empty: give the URL of at least one Redis-compatible server, such as {\"default\": \"redis://localhost:6379\"}")
	}
	for name := range c.Targets {
		if !target.IsName(name) {
			return c, fmt.Errorf("Targets: %q is not a target name: begin with a lower-case letter and go on with lower-case letters, digits and underscores", name)
		}
	}
	for name := range c.TLS {
		if _, ok := c.Targets[name]; !ok {
			return c, fmt.Errorf("TLS: there is no target %q in Targets", name)
		}
	}
	if c.Concurrency < 0 {
		return c, fmt.Errorf("Concurrency is %d: it cannot be negative", c.Concurrency)
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.slice == 0 {
		c.slice = defaultSlice
	}
	return c, nil
}

// ranges is how many ranges of backfills a worker works on at a time, for each target: with
// two, one is read while the other is written.
func (c Config) ranges() int { return max(2, c.Concurrency/2) }

// spareParts is how many parts of batches are in memory beyond those that each lane has for itself: two for each second reader that
// can have a connection.
func (c Config) spareParts() int { return max(2, c.Concurrency) }

func (c Config) targetNames() []string {
	names := make([]string, 0, len(c.Targets))
	for name := range c.Targets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
