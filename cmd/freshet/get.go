package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
)

// get shows for each key what the row says and what the cache says.
func get(ctx context.Context, c *cli, args []string) error {
	return cannotCompare(lookAt(ctx, c, args))
}

func lookAt(ctx context.Context, c *cli, args []string) error {
	set := flags("get")
	only := set.String("target", "", "")
	names, err := parse(set, args, -2)
	if err != nil {
		return err
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := errors.Join(s.needDatabase(), s.needTargets()); err != nil {
		return err
	}
	db, err := pg.Open(ctx, s.DatabaseURL, "freshet get", 4)
	if err != nil {
		return err
	}
	defer db.Close()
	sink, err := findSink(ctx, db, names[0])
	if err != nil {
		return err
	}
	reader, err := source.NewReader(db, sink, nil)
	if err != nil {
		return err
	}
	same := true
	err = eachTarget(sink, s, *only, func(t *target.Target) error {
		for _, key := range names[1:] {
			equal, err := c.show(ctx, db, t, reader, sink, key)
			if err != nil {
				return err
			}
			same = same && equal
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !same {
		return errUnequal
	}
	return nil
}

// show prints one key and reports whether row and entry agree.
func (c *cli) show(ctx context.Context, db catalog.Querier, t *target.Target, reader *source.Reader, sink *catalog.Sink, key string) (bool, error) {
	tuple, ours := sink.Template.Parse(key)
	if !ours {
		return false, fmt.Errorf("%q is no key of sink %s: look at its template in freshet.sinks", key, sink.Name)
	}
	var e source.Entries
	if _, err := reader.Lookup(ctx, [][]string{tuple}, &e); err != nil {
		return false, err
	}
	row, present, none := "", false, "none (no row, or the filter rejects it)"
	if e.Len() > 0 {
		value, ok := e.Value(0)
		row, present = string(value), ok
	}
	for _, f := range e.Failures() {
		none = fmt.Sprintf("fails, so it has no entry: %s (%s)", f.Message, f.Code)
	}
	entry, err := t.Shared().Get(ctx, key).Result()
	exists := err == nil
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("read %s from target %s: %w", key, t.Name, err)
	}
	ttl, err := t.Shared().PTTL(ctx, key).Result()
	if err != nil {
		return false, fmt.Errorf("read expiry of %s: %w", key, err)
	}

	fmt.Fprintf(c.stdout, "%s on %s\n", key, t.Name)
	fmt.Fprintf(c.stdout, "  row:    %s\n", or(present, row, none))
	fmt.Fprintf(c.stdout, "  entry:  %s\n", or(exists, entry, "none"))
	same := present == exists && row == entry
	fmt.Fprintf(c.stdout, "  they are %s\n", or(same, "the same", "different"))
	if exists {
		fmt.Fprintf(c.stdout, "  expires: %s\n", or(ttl > 0, "in "+ttl.Round(time.Second).String(), "never"))
	}
	return same, c.lastChange(ctx, db, sink, t, tuple, same)
}

// lastChange prints when the tuple was last touched, if the change table still knows. How
// far the lane has come is known to the second; an entry that is right was written.
func (c *cli) lastChange(ctx context.Context, db catalog.Querier, sink *catalog.Sink, t *target.Target, tuple []string, same bool) error {
	key := make(map[string]string, len(tuple))
	for i, column := range sink.KeyColumns {
		key[column.Name] = tuple[i]
	}
	var (
		at        time.Time
		operation string
		passed    bool
	)
	err := db.QueryRow(ctx, `
		select at, operation, passed from freshet.recent_changes
		where sink = $1 and target = $2
		  and not exists (select from jsonb_each_text($3) w where recent_changes.key ->> w.key is distinct from w.value)
		order by transaction desc, id desc limit 1`, sink.Name, t.Name, key).Scan(&at, &operation, &passed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the last change: %w", err)
	}
	fmt.Fprintf(c.stdout, "  last change: %s at %s, %s\n", operation, at.Format(time.RFC3339Nano), or(passed || same, "written", "not written yet"))
	return nil
}

func or(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
