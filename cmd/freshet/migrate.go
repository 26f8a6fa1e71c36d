package main

import (
	"context"
	"fmt"
	"io"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/pg"
)

func migrate(ctx context.Context, c *cli, args []string) error {
	set := flags("migrate")
	show := set.Bool("print", false, "")
	if _, err := parse(set, args, 0); err != nil {
		return err
	}
	if *show {
		text, err := install.Print()
		if err != nil {
			return err
		}
		_, err = io.WriteString(c.stdout, text)
		return err
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := s.needDatabase(); err != nil {
		return err
	}
	pool, err := pg.Open(ctx, s.DatabaseURL, "freshet migrate", 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := install.Migrate(pg.Patient(ctx), pool, c.logger(s)); err != nil {
		return err
	}
	version, err := install.Version(ctx, pool)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "Freshet is installed in schema freshet, version %d.\n", version)
	return nil
}
