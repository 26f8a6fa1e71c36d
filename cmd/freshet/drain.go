package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/worker"
)

// How drain exits when it did not do all of it.
const (
	statusLeftOut = 3
	statusTimeout = 4
)

func drain(ctx context.Context, c *cli, args []string) error {
	set := flags("drain")
	timeout := set.Duration("timeout", 0, "")
	if _, err := parse(set, args, 0); err != nil {
		return err
	}
	if *timeout < 0 {
		return fmt.Errorf("%w: --timeout is %s: give how long it may take, such as 5m", errUsage, *timeout)
	}
	config, err := c.workerConfig()
	if err != nil {
		return err
	}
	bounded := ctx
	if *timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	w, err := worker.New(bounded, config)
	if err == nil {
		err = w.Drain(bounded)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && bounded.Err() != nil:
		return statusError{fmt.Errorf("the timeout of %s is over: %w", *timeout, err), statusTimeout}
	case errors.Is(err, worker.ErrLeftOut):
		return statusError{err, statusLeftOut}
	}
	return err
}
