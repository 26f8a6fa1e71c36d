package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/preview"
)

// texts collects a flag that may be given several times.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

func (t *texts) Set(s string) error {
	*t = append(*t, s)
	return nil
}

// definition are the flags that say what a sink is made of.
type definition struct {
	catalog.Definition
	set *flag.FlagSet
}

// flag adds one whose value is nil unless it is given.
func (d *definition) flag(name string, into **string) {
	d.set.Func(name, "", func(s string) error { *into = &s; return nil })
}

// previewCommand shows what rows would become.
func previewCommand(ctx context.Context, c *cli, args []string) error {
	var (
		d      = definition{set: flags("preview")}
		rows   = d.set.Int("rows", 10, "")
		asJSON = d.set.Bool("json", false, "")
		keys   texts
	)
	d.set.Var(&keys, "key", "")
	d.set.StringVar(&d.Source, "source", "", "")
	d.flag("template", &d.Key)
	d.set.Func("columns", "", func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			d.Columns = append(d.Columns, strings.TrimSpace(name))
		}
		return nil
	})
	d.flag("value", &d.Value)
	d.flag("transform", &d.Transform)
	d.flag("filter", &d.Filter)
	d.flag("expires", &d.Expires)
	d.flag("expires-at", &d.ExpiresAt)
	d.set.BoolVar(&d.AcceptDrift, "accept-drift", false, "")
	names, err := arguments(d.set, args)
	if err != nil {
		return err
	}
	if len(names) == 1 {
		d.Name = names[0]
	}
	defines := d.Key != nil || d.Columns != nil || d.Value != nil || d.Transform != nil || d.Filter != nil || d.Expires != nil || d.ExpiresAt != nil || d.AcceptDrift
	switch {
	case len(names) > 1:
		return fmt.Errorf("%w: want one sink, got %d", errUsage, len(names))
	case len(names) == 0 && d.Source == "":
		return fmt.Errorf("%w: name a sink, or with --source the table of one that is not there yet", errUsage)
	case d.Source == "" && defines:
		return fmt.Errorf("%w: --source names the table that the other flags are for", errUsage)
	case *rows < 1 || *rows > 1000:
		return fmt.Errorf("%w: --rows is %d: give 1 to 1000", errUsage, *rows)
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := s.needDatabase(); err != nil {
		return err
	}
	db, err := pg.Open(ctx, s.DatabaseURL, "freshet preview", 2)
	if err != nil {
		return err
	}
	defer db.Close()

	var sink *catalog.Sink
	if d.Source == "" {
		sink, err = findSink(ctx, db, d.Name)
	} else {
		sink, err = define(ctx, db, d.Definition)
	}
	if err != nil {
		return err
	}
	var shown []preview.Row
	if keys != nil {
		shown, err = preview.Keys(ctx, db, sink, nil, keys)
	} else {
		shown, err = preview.First(ctx, db, sink, nil, *rows)
	}
	if err != nil {
		return err
	}
	for _, r := range shown {
		if *asJSON {
			err = c.previewJSON(r)
		} else {
			c.previewText(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// define checks a definition. That makes a temporary view, of which nothing is to be left.
func define(ctx context.Context, db *pgxpool.Pool, d catalog.Definition) (*catalog.Sink, error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, err
	}
	sink, err := check(ctx, tx, d)
	return sink, errors.Join(hinted(err), tx.Rollback(context.WithoutCancel(ctx)))
}

func check(ctx context.Context, tx pgx.Tx, d catalog.Definition) (*catalog.Sink, error) {
	// Postgres would not say what these are of.
	if _, err := tx.Exec(ctx, "select $1::text::regclass", d.Source); err != nil {
		return nil, fmt.Errorf("--source: %w", err)
	}
	if _, err := tx.Exec(ctx, "select $1::text::interval", d.Expires); err != nil {
		return nil, fmt.Errorf("--expires: %w", err)
	}
	return catalog.Define(ctx, tx, d)
}

func (c *cli) previewJSON(r preview.Row) error {
	line := struct {
		Key    string         `json:"key"`
		Result preview.Result `json:"result"`
		Value  *string        `json:"value,omitempty"`
		Bytes  []byte         `json:"bytes,omitempty"`
		Until  *time.Time     `json:"until,omitempty"`
		Error  string         `json:"error,omitempty"`
	}{Key: r.Key, Result: r.Result, Error: r.Error}
	if value := string(r.Value); r.Result == preview.Entry {
		if line.Value = &value; !utf8.ValidString(value) {
			line.Value, line.Bytes = nil, r.Value
		}
	}
	if !r.Until.IsZero() {
		line.Until = &r.Until
	}
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(line)
}

func (c *cli) previewText(r preview.Row) {
	switch {
	case r.Result == preview.Failed:
		fmt.Fprintf(c.stdout, "%s  no entry, for making it fails: %s\n", r.Key, r.Error)
	case r.Result != preview.Entry:
		fmt.Fprintf(c.stdout, "%s  no entry: %s\n", r.Key, r.Result)
	case r.Until.IsZero():
		fmt.Fprintf(c.stdout, "%s  %s\n", r.Key, r.Value)
	default:
		fmt.Fprintf(c.stdout, "%s  %s  until %s\n", r.Key, r.Value, r.Until.Format(time.RFC3339))
	}
}
