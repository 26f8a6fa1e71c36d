package main

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/build"
)

func versionCommand(_ context.Context, c *cli, args []string) error {
	if _, err := parse(flags("version"), args, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, "freshet", build.Read())
	return err
}
