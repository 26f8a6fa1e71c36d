package main

import "context"

func drain(ctx context.Context, c *cli, args []string) error {
	w, err := c.newWorker(ctx, "drain", args)
	if err != nil {
		return err
	}
	return w.Drain(ctx)
}
