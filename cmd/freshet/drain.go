package main

import (
	"context"

	"github.com/freshet/freshet/worker"
)

func drain(ctx context.Context, c *cli, args []string) error {
	if _, err := parse(flags("drain"), args, 0); err != nil {
		return err
	}
	config, err := c.workerConfig()
	if err != nil {
		return err
	}
	w, err := worker.New(ctx, config)
	if err != nil {
		return err
	}
	return w.Drain(ctx)
}
