package main

import "context"

func runWorker(ctx context.Context, c *cli, args []string) error {
	w, err := c.newWorker(ctx, "worker", args)
	if err != nil {
		return err
	}
	return w.Run(ctx)
}
