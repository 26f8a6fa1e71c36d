package failing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/source"
)

// maxFailing is how many entries of a sink may fail on a target at one time. It bounds the
// book, and what trying them again costs.
const maxFailing = 10_000

// ErrStopped is returned when so many entries fail that the sink was stopped.
var ErrStopped = errors.New("too many entries fail; the sink is stopped")

// Book is what one lane or range knows of the failing entries of its sink and target. The
// methods but Known must not be called concurrently.
type Book struct {
	db    *pgxpool.Pool
	held  *lease.Held
	log   *slog.Logger
	gauge *gauge

	mu    sync.Mutex
	known map[string]struct{}
}

// Open reads which entries fail.
func Open(ctx context.Context, db *pgxpool.Pool, gauges *Gauges, held *lease.Held, log *slog.Logger) (*Book, error) {
	rows, err := db.Query(ctx, "select key from freshet.failure where sink_id = $1 and target = $2", held.SinkID, held.Target)
	if err != nil {
		return nil, fmt.Errorf("read failing entries: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read failing entries: %w", err)
	}
	b := &Book{db: db, held: held, log: log, gauge: gauges.of(held.SinkID, held.Target), known: make(map[string]struct{}, len(keys))}
	for _, k := range keys {
		b.known[k] = struct{}{}
	}
	return b, nil
}

// Known reports whether an entry is in the book, as far as this one knows: others write
// to it too.
func (b *Book) Known(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.known[key]
	return known
}

// Note notes the entries of e that fail; they were found in looking at so many, at this
// moment. When it returns nil they may be removed. When too many fail it stops the sink and
// returns ErrStopped: then nothing may be written.
func (b *Book) Note(ctx context.Context, looked int, at time.Time, e *source.Entries) error {
	failures := e.Failures()
	var fresh []source.Failure
	for _, f := range failures {
		if !b.Known(f.Key) {
			fresh = append(fresh, f)
		}
	}
	b.gauge.add(time.Now(), looked, len(fresh))
	if len(failures) == 0 {
		return nil
	}
	if looked, failed := b.gauge.sum(time.Now()); len(fresh) > 0 && tooMany(looked, failed) {
		// A few of them go into the book, to see what is wrong and whether it still is. Their
		// entries stay, and so the others must not count as known: they would be let pass as
		// soon as the sink goes on.
		if _, err := b.record(ctx, at, fresh[:min(len(fresh), probeSize)]); err != nil {
			return err
		}
		return b.stop(ctx, fmt.Sprintf("%d of %d entries failed within a minute", failed, looked), fresh[0])
	}
	all, err := b.record(ctx, at, failures)
	if err != nil {
		return err
	}
	if all > maxFailing {
		return b.stop(ctx, fmt.Sprintf("%d entries fail", all), failures[0])
	}
	if len(fresh) > 0 {
		// Keys and messages have values of rows in them, and those are no log's business.
		b.log.Warn("entries fail and are left out of the cache; see freshet.failures", "sink", b.held.Sink,
			"target", b.held.Target, "entries", len(fresh), "sqlstate", fresh[0].Code)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range fresh {
		b.known[f.Key] = struct{}{}
	}
	return nil
}

func (b *Book) record(ctx context.Context, at time.Time, failures []source.Failure) (int64, error) {
	n := len(failures)
	keys, tuples, codes, messages := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, f := range failures {
		keys[i], tuples[i], codes[i], messages[i] = f.Key, f.TupleLiteral(), f.Code, f.Message
	}
	var all *int64
	note := func() error {
		return b.db.QueryRow(ctx, "select freshet.record_failures($1, $2, $3, $4, $5, $6, $7)",
			b.held.ID, b.held.Epoch, at, keys, tuples, codes, messages).Scan(&all)
	}
	err := note()
	if pg.IsUntranslatable(err) {
		for i := range messages {
			messages[i] = pg.ASCII(messages[i])
		}
		err = note()
	}
	if err != nil {
		return 0, fmt.Errorf("note failing entries: %w", err)
	}
	if all == nil {
		return 0, lease.ErrLost
	}
	return *all, nil
}

// stop stops the sink. What is returned goes to the log: that Postgres' message can have values of rows
// in it only the view may say.
func (b *Book) stop(ctx context.Context, what string, last source.Failure) error {
	reason := fmt.Sprintf("%s, one of them with: %s (%s). Nothing is written until that is mended; "+
		"see freshet.failures, and freshet.resume_sink to go on at once", what, last.Message, last.Code)
	_, err := b.db.Exec(ctx, "select freshet.stop_failing($1, $2)", b.held.SinkID, reason)
	if pg.IsUntranslatable(err) {
		_, err = b.db.Exec(ctx, "select freshet.stop_failing($1, $2)", b.held.SinkID, pg.ASCII(reason))
	}
	if err != nil {
		return fmt.Errorf("stop the sink: %w", err)
	}
	b.gauge.reset()
	return fmt.Errorf("%w: %s, one of them with SQLSTATE %s; see freshet.failures", ErrStopped, what, last.Code)
}

// Strike takes the entries of e that do not fail out of the book, now that they were
// written. All of them are looked for there, or only those that this book knows. What was
// read later than at is the word of somebody who knows better.
func (b *Book) Strike(ctx context.Context, at time.Time, e *source.Entries, all bool) error {
	b.mu.Lock()
	none := !all && len(b.known) == 0
	b.mu.Unlock()
	if none {
		return nil
	}
	var keys []string
	for i := range e.Len() {
		if e.Failed(i) {
			continue
		}
		if key := string(e.Key(i)); all || b.Known(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	rows, err := b.db.Query(ctx, `
		with good as (
			select f.key from freshet.failure f
			where f.sink_id = $1 and f.target = $2 and f.key = any ($3) and f.read_at <= $4
			order by f.key for update
		)
		delete from freshet.failure f using good where f.sink_id = $1 and f.target = $2 and f.key = good.key
		returning f.key`, b.held.SinkID, b.held.Target, keys, at)
	if err != nil {
		return fmt.Errorf("strike out failing entries: %w", err)
	}
	struck, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("strike out failing entries: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range struck {
		delete(b.known, key)
	}
	return nil
}
