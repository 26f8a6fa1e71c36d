package scan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/target"
)

// ErrStopped is returned when a scan was asked to stop.
var ErrStopped = errors.New("stopped")

// errOtherServer ends a scan whose position meant nothing to whom it was asked of.
var errOtherServer = errors.New("it was restarted, or another server has taken its place, in the middle of a scan")

// scanCount is how many keys one SCAN step looks at.
const scanCount = 1000

// Keys walks the keys of a target that are keys of the sink, in pieces, each with the
// tuples that they render. A key can come twice, as SCAN says.
// When stop is closed it ends early with ErrStopped; nil never stops it.
//
// A position in a scan means something to the process that gave it; to another one it hides
// keys. So all of it goes over one connection, or over another to the same run of the server.
// Otherwise it is an error, and the caller begins anew. A proxy may keep the connection and
// change the server: hence who answers is asked at the end too.
func Keys(ctx context.Context, db *pgxpool.Pool, t *target.Target, sink *catalog.Sink, stop <-chan struct{}, found func(keys []string, tuples [][]string) error) error {
	var (
		position uint64
		pattern  = sink.Template.Pattern()
	)
	client := t.Single()
	defer func() { client.Close() }()
	began, err := target.RunOf(ctx, client)
	if err != nil {
		return fmt.Errorf("scan target %s: %w", t.Name, err)
	}
	for {
		select {
		case <-stop:
			return ErrStopped
		default:
		}
		page, next, err := client.Scan(ctx, position, pattern, scanCount).Result()
		if err != nil && began != "" {
			// It may have been closed because the page before was looked at for so long.
			_ = client.Close()
			client = t.Single()
			if again, askErr := target.RunOf(ctx, client); askErr == nil && again == began {
				page, next, err = client.Scan(ctx, position, pattern, scanCount).Result()
			}
		}
		if err != nil {
			return fmt.Errorf("scan target %s: %w", t.Name, err)
		}
		var (
			keys   []string
			tuples [][]string
		)
		for _, k := range page {
			if strings.HasPrefix(k, key.Reserved) {
				continue
			}
			if tuple, ours := sink.Template.Parse(k); ours {
				keys, tuples = append(keys, k), append(tuples, tuple)
			}
		}
		if len(keys) > 0 && sink.Template.NeedsCheck() {
			if keys, tuples, err = canonical(ctx, db, sink, keys, tuples); err != nil {
				return err
			}
		}
		if len(keys) > 0 {
			if err := found(keys, tuples); err != nil {
				return err
			}
		}
		if position = next; position == 0 {
			break
		}
	}
	ended, err := target.RunOf(ctx, client)
	if err != nil && began != "" {
		// Likewise.
		_ = client.Close()
		client = t.Single()
		ended, err = target.RunOf(ctx, client)
	}
	if err == nil && ended != began {
		err = errOtherServer
	}
	if err != nil {
		return fmt.Errorf("scan target %s: %w", t.Name, err)
	}
	return nil
}

// anyPatience is how long Any looks.
const anyPatience = time.Second

// Any reports whether a target may have keys of the sink. Where that takes longer than it is
// worth it may.
func Any(ctx context.Context, db *pgxpool.Pool, t *target.Target, sink *catalog.Sink) (bool, error) {
	late := make(chan struct{})
	timer := time.AfterFunc(anyPatience, func() { close(late) })
	defer timer.Stop()
	err := Keys(ctx, db, t, sink, late, func([]string, [][]string) error { return ErrStopped })
	if errors.Is(err, ErrStopped) {
		return true, nil
	}
	return false, err
}

// canonical keeps the keys whose parts are what their types print.
func canonical(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, keys []string, tuples [][]string) ([]string, [][]string, error) {
	column := make([]string, len(tuples))
	fits := make([]bool, len(tuples))
	for i := range fits {
		fits[i] = true
	}
	for c, oid := range sink.KeyTypes {
		for i, t := range tuples {
			column[i] = t[c]
		}
		var good []bool
		err := db.QueryRow(ctx, `
			select pg_catalog.array_agg(
				-- Of a type that is gone with its table, any text may have been a value.
				not exists (select from pg_type where oid = $2::bigint::oid)
				or freshet.canonical(u.value, freshet.type_name($2::bigint::oid)) is not null order by u.n)
			from pg_catalog.unnest($1::text[]) with ordinality as u (value, n)`, column, int64(oid)).Scan(&good)
		if err != nil {
			return nil, nil, fmt.Errorf("judge keys: %w", err)
		}
		for i := range fits {
			fits[i] = fits[i] && good[i]
		}
	}
	n := 0
	for i, ok := range fits {
		if ok {
			keys[n], tuples[n] = keys[i], tuples[i]
			n++
		}
	}
	return keys[:n], tuples[:n], nil
}
