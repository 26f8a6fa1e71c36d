package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	product "github.com/freshet/freshet/worker"
)

const (
	// notice is how long Freshet may take to notice by itself that Redis has lost
	// something: two checks of a second each, and more on a busy machine.
	notice = 4 * time.Second
	// settling bounds a quiet point.
	settling = 2 * time.Minute
)

// quiet is a quiet point: nobody writes and no fault is at work. What Freshet knows to be
// pending has to end, and then every entry has to be right.
func (r *run) quiet(ctx context.Context, what string) error {
	began := time.Now()
	settleCtx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	err := r.settle(settleCtx)
	took := time.Since(began).Seconds()
	r.note(func() { r.Settled = max(r.Settled, took) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.fail(fmt.Sprintf("%s did not settle in %.0f s: %v; %s", what, took, err, r.status(ctx)))
		return nil
	}
	found, err := r.compare(ctx)
	if err != nil {
		return err
	}
	r.note(func() {
		r.Checks++
		r.Entries += found.entries
		r.Stale += found.stale
		r.Missing += found.missing
		r.Orphaned += found.orphaned
		r.Gaps = found.gaps
	})
	r.say("check  %s: %v; settled in %.1f s", what, found, took)
	if found.right() {
		return nil
	}
	r.fail(fmt.Sprintf("%s: %v", what, found))
	for _, s := range append(found.samples, r.status(ctx)) {
		r.say("       %s", s)
	}
	// Was it late, or is it for ever?
	hold(ctx, 15*time.Second)
	if again, err := r.compare(ctx); err == nil {
		r.say("15 s later: %v", again)
	}
	return nil
}

// settle waits until every lane has looked at its table some time after now, and then
// until nothing is left to do.
func (r *run) settle(ctx context.Context) error {
	var after time.Time
	if err := r.ask(ctx, "select clock_timestamp()", nil, &after); err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	after = after.Add(notice)
	for {
		if err := r.adopt(ctx); err != nil {
			return err
		}
		var late []string
		err := r.super.QueryRow(ctx, `
			select coalesce(array_agg(format('%s/%s/%s %s', sink, target, shard, state)), '{}')
			from freshet.status where as_of is null or as_of <= $1`, after).Scan(&late)
		if err == nil && len(late) == 0 {
			break
		}
		if err != nil && !passing(err) {
			return err
		}
		if hold(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("lanes have not looked again: %s", strings.Join(late, ", "))
		}
	}
	// A mended capture leaves a re-warm behind, and an entry that can be made again a touch.
	for {
		if err := r.awaitWhole(ctx); err != nil {
			return err
		}
		if err := product.Settle(ctx, r.super, []string{"default", "eu"}); err != nil {
			return err
		}
		if left, err := r.broken(ctx); err != nil || len(left) == 0 {
			return err
		}
	}
}

// broken says what Freshet shows to be wrong by now, and is to mend by itself: captures
// that are not as they were, gaps, and entries that failed.
func (r *run) broken(ctx context.Context) (left []string, err error) {
	err = r.super.QueryRow(ctx, `
		select coalesce(array_agg(what), '{}') from (
			select format('capture of %s%s', coalesce(o.relid::regclass::text, o.table_name), ': ' || o.mend_error) as what
			from freshet.source o
			where o.relid is not null and o.fingerprint - 'known' is distinct from freshet.fingerprint(o.id)
			union all
			select format('gaps of %s', source) from freshet.capture_gaps
			union all
			select format('entry %s: %s', key, error) from freshet.failures
			union all
			select distinct format('sink %s: %s', sink, last_error) from freshet.status where state in ('failing', 'lapsed')) l`).Scan(&left)
	return left, err
}

func (r *run) awaitWhole(ctx context.Context) error {
	for {
		left, err := r.broken(ctx)
		if err == nil && len(left) == 0 {
			return nil
		}
		if err != nil && !passing(err) {
			return err
		}
		if hold(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("not mended: %s", strings.Join(left[:min(len(left), 10)], ", "))
		}
	}
}

// adopt does what an operator does for a sink that is blocked by keys it has written in an
// earlier life: an old dump brings keys back of which no living sink knows.
func (r *run) adopt(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.restored {
		return nil
	}
	rows, _ := r.db.Query(ctx, "select distinct sink from freshet.status where state = 'blocked'")
	blocked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil && passing(err) {
		return nil
	}
	for _, name := range blocked {
		r.say("%s is blocked by what an old dump brought back; adopting", name)
		r.note(func() { r.Adopted++ })
		if err := r.insist(ctx, "select freshet.alter_sink($1, adopt => true)", name); err != nil {
			return err
		}
	}
	return err
}

// status is what an operator would look at first.
func (r *run) status(ctx context.Context) string {
	var text *string
	err := r.super.QueryRow(ctx, `
		select string_agg(format('%s/%s/%s %s, lag %s, pending %s%s', sink, target, shard, state, lag, pending, ', error ' || last_error), '; ')
		from freshet.status where state <> 'live' or pending > 0`).Scan(&text)
	if err != nil {
		return err.Error()
	}
	if text == nil {
		return "every lane is live"
	}
	return *text
}

// finding is what one comparison came to.
type finding struct {
	entries, stale, missing, orphaned, gaps int
	samples                                 []string
}

func (f finding) right() bool { return f.stale+f.missing+f.orphaned+f.gaps == 0 }

func (f finding) String() string {
	text := fmt.Sprintf("%d entries, %d stale, %d missing, %d orphaned", f.entries, f.stale, f.missing, f.orphaned)
	if f.gaps > 0 {
		text += fmt.Sprintf(", %d gaps", f.gaps)
	}
	return text
}

func (f *finding) sample(format string, args ...any) {
	if len(f.samples) < 20 {
		text := fmt.Sprintf(format, args...)
		f.samples = append(f.samples, text[:min(len(text), 400)])
	}
}

// compare holds every target against the promises of all its sinks. A key that no sink
// promises is orphaned, whoever wrote it.
func (r *run) compare(ctx context.Context) (finding, error) {
	var f finding
	err := pgx.BeginTxFunc(ctx, r.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		for name, cache := range r.caches {
			want := make(map[string]string)
			var expiring []string
			for _, s := range r.sinks() {
				if !slices.Contains(s.targets, name) {
					continue
				}
				rows, _ := tx.Query(ctx, s.promise)
				var key, value string
				if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error {
					want[key] = value
					if s.expires {
						expiring = append(expiring, key)
					}
					return nil
				}); err != nil {
					return fmt.Errorf("ask for the promise of %s: %w", s.name, err)
				}
			}
			got, err := contents(ctx, cache)
			if err != nil {
				return fmt.Errorf("read target %s: %w", name, err)
			}
			f.judge(name, want, got)
			if err := f.judgeExpiry(ctx, cache, expiring); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	rows, _ := r.super.Query(ctx, "select distinct format('gap: %s', g) from freshet.capture_gap g limit 5")
	gaps, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return f, fmt.Errorf("read gaps: %w", err)
	}
	f.gaps, f.samples = len(gaps), append(f.samples, gaps...)
	return f, nil
}

func (f *finding) judge(target string, want, got map[string]string) {
	for k, w := range want {
		f.entries++
		switch g, there := got[k]; {
		case !there:
			f.missing++
			f.sample("missing  %s %s: want %s", target, k, w)
		case !sameJSON(g, w):
			f.stale++
			f.sample("stale    %s %s: got %s, want %s", target, k, g, w)
		}
	}
	for k, g := range got {
		if _, ours := want[k]; !ours {
			f.orphaned++
			f.sample("orphaned %s %s: %s", target, k, g)
		}
	}
}

// judgeExpiry counts an entry as stale that would outlive its promise.
func (f *finding) judgeExpiry(ctx context.Context, cache *redis.Client, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := cache.Pipeline()
	left := make([]*redis.DurationCmd, len(keys))
	for i, k := range keys {
		left[i] = pipe.PTTL(ctx, k)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read times to live: %w", err)
	}
	for i, k := range keys {
		// -2 is a key that is missing, which is counted already.
		if ttl := left[i].Val(); ttl != -2 && (ttl <= 0 || ttl > time.Hour) {
			f.stale++
			f.sample("stale    %s lives for %s", k, ttl)
		}
	}
	return nil
}

// contents is every key of a database but Freshet's own.
func contents(ctx context.Context, cache *redis.Client) (map[string]string, error) {
	got := make(map[string]string)
	var keys []string
	iter := cache.Scan(ctx, 0, "*", 5000).Iterator()
	for iter.Next(ctx) {
		if !strings.HasPrefix(iter.Val(), "freshet:") {
			keys = append(keys, iter.Val())
		}
	}
	if err := iter.Err(); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(keys, 2000) {
		values, err := cache.MGet(ctx, some...).Result()
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if text, ok := v.(string); ok {
				got[some[i]] = text
			}
		}
	}
	return got, nil
}

// sameJSON compares documents, numbers by their digits.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	for text, into := range map[string]*any{a: &x, b: &y} {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		if d.Decode(into) != nil {
			return false
		}
	}
	return reflect.DeepEqual(x, y)
}
