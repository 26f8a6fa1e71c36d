package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/freshet/freshet/worker"
)

func runWorker(ctx context.Context, c *cli, args []string) error {
	if _, err := parse(flags("worker"), args, 0); err != nil {
		return err
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	config, err := c.configOf(s)
	if err != nil {
		return err
	}
	// Only here: a drain or a purge beside a worker would want its port.
	var variable string
	if config.HTTPAddr, variable, err = s.httpAddr(); err != nil {
		return err
	}
	w, err := worker.New(ctx, config)
	if errors.Is(err, worker.ErrListen) {
		return fmt.Errorf("%s: %w", variable, err)
	}
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// httpAddr is where to serve health and metrics, empty for nowhere, and which variable
// says so.
func (s settings) httpAddr() (addr, variable string, err error) {
	if s.HTTPAddr != "" {
		if _, port, err := net.SplitHostPort(s.HTTPAddr); err != nil || !isPort(port, 0) {
			return "", "", fmt.Errorf("FRESHET_HTTP_ADDR is %q: give an address to listen on, such as :9090 or 127.0.0.1:9090", s.HTTPAddr)
		}
		return s.HTTPAddr, "FRESHET_HTTP_ADDR", nil
	}
	if s.Port != "" {
		if !isPort(s.Port, 1) {
			return "", "", fmt.Errorf("PORT is %q: give a number from 1 to 65535", s.Port)
		}
		return ":" + s.Port, "PORT", nil
	}
	return "", "", nil
}

func isPort(text string, least int) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= least && n <= 65535
}
