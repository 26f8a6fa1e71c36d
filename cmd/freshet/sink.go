package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/target"
)

// findSink reads the sink that a command names.
func findSink(ctx context.Context, db catalog.Querier, name string) (*catalog.Sink, error) {
	sink, err := catalog.LoadSinkNamed(ctx, db, name)
	if errors.Is(err, catalog.ErrNoSink) {
		return nil, fmt.Errorf("there is no sink %q; select sink from freshet.sinks lists them", name)
	}
	return sink, err
}

// targetsOf are the names of a sink's targets, or this one of them. All have a URL: nobody
// wants to wait for the first one to hear that there is none for the second.
func targetsOf(sink *catalog.Sink, s settings, only string) ([]string, error) {
	names := sink.Targets
	if only != "" {
		if !slices.Contains(names, only) {
			return nil, fmt.Errorf("sink %s does not write to target %q but to %s", sink.Name, only, strings.Join(names, ", "))
		}
		names = []string{only}
	}
	for _, name := range names {
		if _, ok := s.urls[name]; !ok {
			return nil, fmt.Errorf("sink %s writes to target %s: %w; or give --target NAME", sink.Name, name, s.noURL(name))
		}
	}
	return names, nil
}

// eachTarget calls do with every target of a sink, or with the one of that name.
func eachTarget(sink *catalog.Sink, s settings, only string, do func(*target.Target) error) error {
	names, err := targetsOf(sink, s, only)
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := s.target(name)
		if err != nil {
			return err
		}
		if err := errors.Join(do(t), t.Close()); err != nil {
			return err
		}
	}
	return nil
}

// statusTrouble is how commands that compare exit when they cannot: 1 says that something
// differs.
const statusTrouble = 2

// cannotCompare gives an error of such a command its status.
func cannotCompare(err error) error {
	if err == nil || errors.Is(err, errUnequal) {
		return err
	}
	return statusError{err, statusTrouble}
}
