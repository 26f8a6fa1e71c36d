package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/verify"
)

func verifyCommand(ctx context.Context, c *cli, args []string) error {
	return cannotCompare(compare(ctx, c, args))
}

func compare(ctx context.Context, c *cli, args []string) error {
	var o verify.Options
	set := flags("verify")
	set.IntVar(&o.Sample, "sample", 0, "")
	set.BoolVar(&o.Repair, "repair", false, "")
	only := set.String("target", "", "")
	set.DurationVar(&o.Patience, "timeout", 30*time.Second, "")
	names, err := parse(set, args, 1)
	if err != nil {
		return err
	}
	if o.Sample < 0 {
		return fmt.Errorf("%w: --sample is %d: give a number of rows", errUsage, o.Sample)
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := errors.Join(s.needDatabase(), s.needTargets()); err != nil {
		return err
	}
	db, err := pg.Open(ctx, s.DatabaseURL, "freshet verify", 4)
	if err != nil {
		return err
	}
	defer db.Close()

	result, err := verifySink(ctx, c, db, s, names[0], *only, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, result)
	if !result.Clean() {
		return errUnequal
	}
	return nil
}

// verifySink compares a sink on all of its targets, or on one.
func verifySink(ctx context.Context, c *cli, db *pgxpool.Pool, s settings, name, only string, o verify.Options) (verify.Result, error) {
	sink, err := findSink(ctx, db, name)
	if err != nil {
		return verify.Result{}, err
	}
	var total verify.Result
	err = eachTarget(sink, s, only, func(t *target.Target) error {
		result, err := verify.Run(ctx, db, t, sink, o)
		total = total.Add(result)
		return err
	})
	if err != nil {
		return verify.Result{}, err
	}
	switch {
	case !total.Lazy:
	case sink.Coverage != "full":
		fmt.Fprintf(c.stdout, "sink %s was never warmed whole: rows without an entry do not count as missing\n", name)
	default:
		fmt.Fprintf(c.stdout, "entries of sink %s expire: rows without an entry do not count as missing\n", name)
	}
	if differ := total.Stale + total.Missing + total.Orphaned; o.Repair && differ > 0 {
		fmt.Fprintf(c.stdout, "touched %d key tuples of sink %s; a worker mends them\n", differ, name)
	}
	return total, nil
}
