package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/freshet/freshet/internal/servers"
)

// writing is the application_name of all connections that write.
const writing = "soak writer"

// initPgbench makes pgbench's tables. Most accounts go, so that every check and every
// re-warm is quick; pgbench does not mind updating none.
func (r *run) initPgbench(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "pgbench", "--initialize", "--quiet", r.ownerURL).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise pgbench: %w: %s", err, out)
	}
	if _, err := r.db.Exec(ctx, "delete from pgbench_accounts where aid > 10000"); err != nil {
		return fmt.Errorf("initialise pgbench: %w", err)
	}
	return nil
}

// runPgbench keeps a pgbench at work until ctx ends; one that a fault ends is started again.
func (r *run) runPgbench(ctx context.Context, round uint64) {
	for n := uint64(0); ctx.Err() == nil; n++ {
		seed := strconv.FormatUint((r.seed+round<<10+n)%(1<<31), 10)
		cmd := exec.Command("pgbench", "--no-vacuum", "--client=2", "--rate=150", "--time=3600", "--max-tries=10", "--random-seed="+seed,
			r.ownerURL+"&application_name="+"soak%20writer")
		if r.version < 150000 {
			// --max-tries is newer than this.
			cmd.Args = append(cmd.Args[:5], cmd.Args[6:]...)
		}
		p, err := servers.StartProcess(cmd)
		if err != nil {
			r.fail(fmt.Sprintf("start pgbench: %v", err))
			return
		}
		select {
		case <-ctx.Done():
			p.Signal(syscall.SIGTERM)
			if !p.Exited(3 * time.Second) {
				p.Kill()
			}
		case <-p.Ended():
			hold(ctx, 500*time.Millisecond)
		}
	}
}
