package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/pg"
)

// laneStatus is a row of the view status.
type laneStatus struct {
	Sink        string     `json:"sink" db:"sink"`
	Target      string     `json:"target" db:"target"`
	Shard       int        `json:"shard" db:"shard"`
	State       string     `json:"state" db:"state"`
	Coverage    string     `json:"coverage" db:"coverage"`
	AsOf        *time.Time `json:"as_of" db:"as_of"`
	LagSeconds  *float64   `json:"lag_seconds" db:"lag_seconds"`
	Pending     int64      `json:"pending" db:"pending"`
	Worker      *string    `json:"worker" db:"worker"`
	LastError   *string    `json:"last_error" db:"last_error"`
	LastErrorAt *time.Time `json:"last_error_at" db:"last_error_at"`
}

const statusQuery = `select sink, target, shard, state, coverage, as_of, extract(epoch from lag)::float8 as lag_seconds,
	pending, worker, last_error, last_error_at from freshet.status order by sink, target, shard`

func status(ctx context.Context, c *cli, args []string) error {
	set := flags("status")
	asJSON := set.Bool("json", false, "")
	watch := set.Bool("watch", false, "")
	if _, err := parse(set, args, 0); err != nil {
		return err
	}
	err := c.watchStatus(ctx, *asJSON, *watch)
	// To be interrupted, in whatever it was just doing, is how it is to end.
	if *watch && ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *cli) watchStatus(ctx context.Context, asJSON, watch bool) error {
	db, err := c.openDatabase(ctx, "freshet status")
	if err != nil {
		return err
	}
	defer db.Close()
	err = c.showStatus(ctx, db, asJSON)
	if err != nil || !watch {
		return err
	}
	for {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		if !asJSON {
			fmt.Fprintln(c.stdout)
		}
		err := c.showStatus(ctx, db, asJSON)
		var unreadable readError
		switch {
		case ctx.Err() == nil && errors.As(err, &unreadable):
			// It may pass.
			fmt.Fprintf(c.stderr, "freshet status: %s\n", oneLine(err))
		case err != nil:
			return err
		}
	}
}

// readError is that the view could not be read.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

func (c *cli) showStatus(ctx context.Context, db *pgxpool.Pool, asJSON bool) error {
	lanes, err := readStatus(ctx, db)
	if err != nil {
		return readError{err}
	}
	if asJSON {
		return json.NewEncoder(c.stdout).Encode(lanes)
	}
	return printStatus(c.stdout, lanes)
}

// openDatabase connects for a command that only asks.
func (c *cli) openDatabase(ctx context.Context, name string) (*pgxpool.Pool, error) {
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	if err := s.needDatabase(); err != nil {
		return nil, err
	}
	return pg.Open(ctx, s.DatabaseURL, name, 4)
}

func readStatus(ctx context.Context, db *pgxpool.Pool) ([]laneStatus, error) {
	rows, err := db.Query(ctx, statusQuery)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowToStructByName[laneStatus])
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return lanes, nil
}

func printStatus(out io.Writer, lanes []laneStatus) error {
	if len(lanes) == 0 {
		_, err := fmt.Fprintln(out, "There are no sinks; create one with freshet.create_sink.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SINK\tTARGET\tSHARD\tSTATE\tCOVERAGE\tLAG\tPENDING\tWORKER")
	for _, l := range lanes {
		lag, worker := "-", "-"
		if l.LagSeconds != nil {
			lag = fmt.Sprintf("%.1f s", *l.LagSeconds)
		}
		if l.Worker != nil {
			worker = *l.Worker
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", l.Sink, l.Target, l.Shard, l.State, l.Coverage, lag, l.Pending, worker)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printWhy(out, lanes)
}

// why is an error of one or several shards of a sink on a target.
type why struct {
	sink, target, text string
	shards             []string
	// at is when it last came up, nil for what is so as long as the line is there.
	at *time.Time
}

// printWhy prints what is wrong with lanes; what several of a sink's shards say is one line.
func printWhy(out io.Writer, lanes []laneStatus) error {
	var all []*why
	shards := make(map[string]int)
	for _, l := range lanes {
		shards[l.Sink+" "+l.Target]++
		if l.LastError == nil {
			continue
		}
		i := slices.IndexFunc(all, func(w *why) bool {
			return w.sink == l.Sink && w.target == l.Target && w.text == *l.LastError && (w.at == nil) == (l.LastErrorAt == nil)
		})
		if i < 0 {
			i = len(all)
			all = append(all, &why{sink: l.Sink, target: l.Target, text: *l.LastError, at: l.LastErrorAt})
		}
		w := all[i]
		w.shards = append(w.shards, strconv.Itoa(l.Shard))
		if w.at != nil && l.LastErrorAt.After(*w.at) {
			w.at = l.LastErrorAt
		}
	}
	for _, w := range all {
		where := w.sink + " on " + w.target
		switch n := shards[w.sink+" "+w.target]; {
		case len(w.shards) == n:
		case len(w.shards) == 1:
			where += ", shard " + w.shards[0]
		default:
			where += ", shards " + strings.Join(w.shards, ", ")
		}
		if w.at != nil {
			where += fmt.Sprintf(", %s ago", time.Since(*w.at).Round(time.Second))
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", where, w.text); err != nil {
			return err
		}
	}
	return nil
}
