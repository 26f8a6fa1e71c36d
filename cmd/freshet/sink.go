package main

import (
	"context"
	"errors"
	"fmt"

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

// eachTarget calls do with every target of a sink.
func eachTarget(sink *catalog.Sink, s settings, do func(*target.Target) error) error {
	for _, name := range sink.Targets {
		if _, ok := s.urls[name]; !ok {
			return fmt.Errorf("sink %s writes to target %s, whose URL is not set", sink.Name, name)
		}
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
