package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/worker"
)

// settings are the environment of every command.
type settings struct {
	DatabaseURL         string     `env:"FRESHET_DATABASE_URL"`
	FallbackDatabaseURL string     `env:"DATABASE_URL"`
	RedisURL            string     `env:"FRESHET_REDIS_URL"`
	FallbackRedisURL    string     `env:"REDIS_URL"`
	Targets             []string   `env:"FRESHET_TARGETS"`
	Concurrency         int        `env:"FRESHET_CONCURRENCY" envDefault:"4"`
	PollOnly            bool       `env:"FRESHET_POLL_ONLY"`
	LogLevel            slog.Level `env:"FRESHET_LOG_LEVEL" envDefault:"info"`
	LogFormat           string     `env:"FRESHET_LOG_FORMAT" envDefault:"text"`
	HTTPAddr            string     `env:"FRESHET_HTTP_ADDR"`
	Port                string     `env:"PORT"`

	urls map[string]string
	// tls are the settings of targets that have any.
	tls map[string]*tls.Config
	// from says which variable a target's URL came from.
	from map[string]string
	// unserved have a URL and are not among Targets.
	unserved []string
}

const redisPrefix = "FRESHET_REDIS_URL_"

// load reads the environment. An error names the variable.
func (c *cli) load() (settings, error) {
	var s settings
	if err := env.ParseWithOptions(&s, env.Options{Environment: c.environ}); err != nil {
		return s, environmentError(err, c.environ)
	}
	if s.Concurrency < 1 || s.Concurrency > 1000 {
		return s, fmt.Errorf("FRESHET_CONCURRENCY is %d: give a number from 1 to 1000", s.Concurrency)
	}
	if s.LogFormat != "text" && s.LogFormat != "json" {
		return s, fmt.Errorf("FRESHET_LOG_FORMAT is %q: give text or json", s.LogFormat)
	}

	if err := s.findURLs(c.environ); err != nil {
		return s, err
	}
	files, err := s.findTLS(c.environ)
	if err != nil {
		return s, err
	}
	s.Targets = listed(s.Targets)
	if len(s.Targets) > 0 {
		for _, name := range s.Targets {
			if _, ok := s.urls[name]; !ok {
				return s, fmt.Errorf("FRESHET_TARGETS names %q: %w", name, s.noURL(name))
			}
		}
		for name := range s.urls {
			if !slices.Contains(s.Targets, name) {
				s.unserved = append(s.unserved, name)
				delete(s.urls, name)
			}
		}
	}
	// Of targets that are not served, nothing has to be readable here.
	if s.tls, err = s.readTLS(files); err != nil {
		return s, err
	}
	return s, s.checkURLs()
}

// findURLs collects the URLs; an error names the variable and never shows its value.
func (s *settings) findURLs(environ map[string]string) error {
	variable := "FRESHET_DATABASE_URL"
	if s.DatabaseURL == "" {
		s.DatabaseURL, variable = s.FallbackDatabaseURL, "DATABASE_URL"
	}
	if s.DatabaseURL != "" {
		if _, err := pg.ParseURL(s.DatabaseURL); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}

	s.urls, s.from = make(map[string]string), make(map[string]string)
	if s.RedisURL != "" {
		s.urls["default"], s.from["default"] = s.RedisURL, "FRESHET_REDIS_URL"
	} else if s.FallbackRedisURL != "" {
		s.urls["default"], s.from["default"] = s.FallbackRedisURL, "REDIS_URL"
	}
	for _, variable := range slices.Sorted(maps.Keys(environ)) {
		suffix, ok := strings.CutPrefix(variable, redisPrefix)
		url := environ[variable]
		if !ok || url == "" {
			continue
		}
		name := strings.ToLower(suffix)
		if !target.IsName(name) {
			return fmt.Errorf("%s: %q is no name of a target: begin it with a letter and go on with up to 47 letters, digits and underscores", variable, name)
		}
		if other := s.from[name]; other != "" && other != "REDIS_URL" && s.urls[name] != url {
			return fmt.Errorf("%s and %s are both for target %s, and differ: unset one of them", other, variable, name)
		}
		s.urls[name], s.from[name] = url, variable
	}
	return nil
}

// checkURLs makes sure that the URLs of the targets can be read.
func (s *settings) checkURLs() error {
	for name := range s.urls {
		t, err := s.target(name)
		if err != nil {
			return fmt.Errorf("%s: %w", s.from[name], err)
		}
		if err := t.Close(); err != nil {
			return err
		}
	}
	return nil
}

// listed are the names of a list as somebody writes it, with blanks, capitals and a comma at
// its end.
func listed(names []string) []string {
	var list []string
	for _, name := range names {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			list = append(list, name)
		}
	}
	return list
}

// noURL says what to set for a target that has no URL here.
func (s *settings) noURL(name string) error {
	if slices.Contains(s.unserved, name) {
		return fmt.Errorf("FRESHET_TARGETS leaves out target %s", name)
	}
	variable := "FRESHET_REDIS_URL"
	if name != "default" {
		variable = redisPrefix + strings.ToUpper(name)
	}
	return fmt.Errorf("target %s has no URL: set %s", name, variable)
}

// target is the target of a name that has a URL.
func (s *settings) target(name string) (*target.Target, error) {
	return target.Parse(name, s.urls[name], s.tls[name])
}

// environmentError names the variable behind a parse error and never its neighbours.
func environmentError(err error, environ map[string]string) error {
	for field, variable := range map[string]string{
		"Concurrency": "FRESHET_CONCURRENCY", "PollOnly": "FRESHET_POLL_ONLY", "LogLevel": "FRESHET_LOG_LEVEL",
	} {
		if strings.Contains(err.Error(), `"`+field+`"`) {
			return fmt.Errorf("%s is %q, which cannot be read: %s", variable, environ[variable], wanted[variable])
		}
	}
	return err
}

var wanted = map[string]string{
	"FRESHET_CONCURRENCY": "give a number from 1 to 1000",
	"FRESHET_POLL_ONLY":   "give true or false",
	"FRESHET_LOG_LEVEL":   "give debug, info, warn or error",
}

func (s settings) needDatabase() error {
	if s.DatabaseURL == "" {
		return fmt.Errorf("FRESHET_DATABASE_URL is not set: give the URL of your database, such as postgres://user:password@localhost:5432/shop")
	}
	return nil
}

func (s settings) needTargets() error {
	if len(s.urls) == 0 {
		return fmt.Errorf("FRESHET_REDIS_URL is not set: give the URL of your cache, such as redis://localhost:6379")
	}
	return nil
}

func (c *cli) logger(s settings) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.stderr, options))
	}
	return slog.New(slog.NewTextHandler(c.stderr, options))
}

// workerConfig is what the commands that work give to package worker.
func (c *cli) workerConfig() (worker.Config, error) {
	s, err := c.load()
	if err != nil {
		return worker.Config{}, err
	}
	return c.configOf(s)
}

func (c *cli) configOf(s settings) (worker.Config, error) {
	if err := s.needDatabase(); err != nil {
		return worker.Config{}, err
	}
	if err := s.needTargets(); err != nil {
		return worker.Config{}, err
	}
	return worker.Config{
		DatabaseURL: s.DatabaseURL, Targets: s.urls, TLS: s.tls, Concurrency: s.Concurrency, PollOnly: s.PollOnly, Logger: c.logger(s),
	}, nil
}
