package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/source"
)

const (
	// settlePause is how often Settle looks; a lane's progress is written each second.
	settlePause = 100 * time.Millisecond
	// explainTimeout bounds the last look, at what is still behind.
	explainTimeout = 2 * time.Second
)

// Settle waits until every lane of these targets has applied what was committed before
// the call, and until no backfill, sweep or purge is left, together with what those
// touched. Sinks that are paused, failing, blocked or have a transform that does not fit
// are not waited for, nor are backfills that are paused. Somebody has to work meanwhile.
// When ctx ends first, its error says what is still behind.
func Settle(ctx context.Context, db *pgxpool.Pool, targets []string) error {
	s := settling{db: db, targets: targets}
	return s.run(ctx)
}

// settling is one wait until nothing is pending.
type settling struct {
	db      *pgxpool.Pool
	targets []string
	// transforms are the functions of Go that can be waited for, nil for all.
	transforms []string
	// began is when, by the clock of Postgres: errors of before may be over. start is the same by this process' clock.
	began, start time.Time
	// patience is how long what stands in the way is not believed yet: it may be what an earlier worker has found, and a
	// lane has to have looked.
	patience time.Duration
	// left is what could not be waited for when it was over.
	left []leftOut
	// fits is what became of looking at transforms, by the revision of their sinks: what is
	// wrong, empty if nothing.
	fits map[revision]string
}

type revision struct{ sink, number int32 }

// leftOut is work on a sink that nobody can do as things are.
type leftOut struct {
	sink, target, why string
	// paused: somebody wants it so.
	paused bool
}

func (l leftOut) String() string { return fmt.Sprintf("%s on %s: %s", l.sink, l.target, l.why) }

// work is a lease that is not done.
type work struct {
	ID                 int64
	Sink, Revision     int32
	Name, Target, Kind string
	// Transform is the expression that is needed to do it, empty if none is.
	Transform string
	// Why says why nobody can do it, empty if somebody can.
	Why    string
	Paused bool
}

func (s *settling) run(ctx context.Context) error {
	s.fits = make(map[revision]string)
	for {
		worked, err := s.round(ctx)
		if err != nil || !worked {
			return err
		}
		// A sweep or a validation touches as the last thing it does: what it touched is
		// later than the snapshot of this round.
	}
}

// round waits for what was committed before it. It reports whether there was anything but
// lanes.
func (s *settling) round(ctx context.Context) (worked bool, err error) {
	var before string
	var now time.Time
	if err := s.db.QueryRow(ctx, "select pg_current_snapshot()::text, clock_timestamp()").Scan(&before, &now); err != nil {
		return false, fmt.Errorf("take a snapshot: %w", err)
	}
	if s.began.IsZero() {
		s.began, s.start = now, time.Now()
	}
	var behind []int64
	for {
		open, err := s.open(ctx, before)
		if err != nil && ctx.Err() == nil {
			return false, err
		}
		if err == nil {
			behind, s.left = nil, nil
			early := time.Since(s.start) < s.patience
			for _, w := range open {
				if early && w.Why != "" && !w.Paused && w.Kind != "purge" {
					behind = append(behind, w.ID)
					continue
				}
				if w.Why == "" {
					w.Why = s.unfit(ctx, w)
				}
				if w.Why == "" {
					behind = append(behind, w.ID)
					worked = worked || w.Kind != "sync"
				} else if l := (leftOut{w.Name, w.Target, w.Why, w.Paused}); !slices.Contains(s.left, l) {
					s.left = append(s.left, l)
				}
			}
			if len(behind) == 0 {
				return worked, nil
			}
		}
		timer := time.NewTimer(settlePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, fmt.Errorf("still behind: %s: %w", strings.Join(s.explain(ctx, behind), "; "), ctx.Err())
		}
	}
}

// open lists what is not done, and of it what nobody can do. What is to be removed can be
// whatever became of the sink. Of a function of Go that is missing here, others may have it.
func (s *settling) open(ctx context.Context, before string) ([]work, error) {
	rows, err := s.db.Query(ctx, `
		select l.id, s.id as sink, s.revision, s.name, l.target, l.kind,
		       case when s.transform not like 'go:%' and l.kind <> 'purge' and not l.closing and not going.away then s.transform else '' end as transform,
		       coalesce(why.so, '') as why, not going.away and (s.state = 'paused' or halted.run is not null) as paused
		from freshet.lease l
		join freshet.sink s on s.id = l.sink_id
		cross join freshet.function_for(s, l) as n (function)
		cross join lateral (select n.function is not null and n.function <> all ($3) as function) as lacks
		cross join lateral (select s.state in ('retiring', 'dropping') or l.kind = 'purge' as away) as going
		left join lateral (
		    select b.id as run from freshet.backfill_range r join freshet.backfill_run b on b.id = r.run_id
		    where r.lease_id = l.id and b.state = 'paused') as halted on true
		cross join lateral (
		    select case when going.away then null
		        when s.state = 'paused' then 'it is paused'
		        when halted.run is not null then format('backfill %s is paused', halted.run)
		        when s.broken is not null then s.broken
		        when s.state = 'failing' then coalesce(s.failing, 'it is failing')
		        else coalesce((
		            select freshet.obstacle(s, b) from freshet.lease b
		            where b.sink_id = l.sink_id and b.target = l.target and (b.blocked > 0 or b.blocked_by is not null) limit 1),
		            case when lacks.function then format('no worker has the Go transform %s', n.function) end)
		        end as so) as why
		where l.target = any ($1) and l.finished_at is null
		  and (l.kind <> 'sync'
		       or s.state in ('active', 'paused', 'failing') and not coalesce(freshet.snapshot_covers(l.passed, $2::text::pg_snapshot), false))
		  and not (coalesce(lacks.function, false) and exists (
		      select from freshet.worker w
		      where l.target = any (w.targets) and n.function = any (w.transforms)
		        and w.heartbeat_at > clock_timestamp() - interval '10 seconds'))
		order by l.id`, s.targets, before, s.transforms)
	if err != nil {
		return nil, fmt.Errorf("ask what is pending: %w", err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowToStructByName[work])
	if err != nil {
		return nil, fmt.Errorf("ask what is pending: %w", err)
	}
	return open, nil
}

// unfit says what is wrong with the transform of a sink, empty if nothing is. Only who reads
// the sink finds that out, and then tries for ever. While its source is still to be looked
// after, its columns may not be those that the transform is for.
func (s *settling) unfit(ctx context.Context, w work) string {
	if w.Transform == "" {
		return ""
	}
	at := revision{w.Sink, w.Revision}
	if said, known := s.fits[at]; known {
		return said
	}
	sink, err := catalog.LoadSink(ctx, s.db, w.Sink)
	if err != nil || sink.Revision != w.Revision || sink.Table == "" || len(sink.KeyColumns) == 0 {
		return "" // others say what is wrong, or it is read anew
	}
	said := ""
	if _, err := source.NewReader(s.db, sink, &registered); err != nil {
		var altered bool
		if s.db.QueryRow(ctx, "select freshet.is_altered($1)", sink.SourceID).Scan(&altered) != nil || altered {
			return ""
		}
		said = err.Error()
	}
	s.fits[at] = said
	return said
}

// explain names what is behind, with what went wrong there since it is waited for.
func (s *settling) explain(ctx context.Context, leases []int64) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
	defer cancel()
	rows, err := s.db.Query(ctx, `
		select distinct s.name || ' on ' || l.target
		    || case when l.kind <> 'sync' then ' (' || l.kind || ')' when s.shards > 1 then ', shard ' || l.part else '' end
		    || coalesce(': ' || case when l.last_error_at >= $2 then l.last_error end, ': ' || freshet.obstacle(s, l), '')
		from freshet.lease l join freshet.sink s on s.id = l.sink_id
		where l.id = any ($1)
		order by 1`, leases, s.began)
	if err == nil {
		var lines []string
		if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return lines
		}
	}
	return []string{errors.Join(fmt.Errorf("%d lanes or other leases", len(leases)), err).Error()}
}
