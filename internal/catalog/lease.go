package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kind is what the holder of a lease does.
type Kind string

// The kinds of lease.
const (
	Sync     Kind = "sync"
	Retired  Kind = "retired"
	Backfill Kind = "backfill"
	Sweep    Kind = "sweep"
	Purge    Kind = "purge"
)

// Lease is work that one worker at a time may do.
type Lease struct {
	ID     int64
	SinkID int32
	// Sink is its name.
	Sink   string
	Kind   Kind
	Target string
	Part   string
	Epoch  int64
	Nonce  string
	// Stamped: the control key has been written before, so a missing one was lost.
	Stamped bool
	Cursor  string
	// AsOf is up to when earlier holders had applied everything, nil if never.
	AsOf *time.Time
	// Recut: Cursor counts, and an older or newer one in the control key does not: the
	// shards of the sink were changed.
	Recut bool
	// Closing: the lane only removes entries, for its sink has left the target.
	Closing bool
	// Life is what database and target had been through when the control key was last seen
	// there, nil if that is not known.
	Life *string
	// Rivalled: the control key was left to a copy of the database.
	Rivalled bool
}

// ErrNotOurs is returned when a lease has moved on to another epoch or holder.
var ErrNotOurs = errors.New("the lease has passed to another epoch")

// TakeLease makes worker the holder of a lease under this epoch. It can be taken
// once only: a job that runs twice finds it taken and gets ErrNotOurs.
func TakeLease(ctx context.Context, db Querier, id, epoch int64, worker string) (Lease, error) {
	l := Lease{ID: id}
	err := db.QueryRow(ctx, `
		update freshet.lease l
		set holder = $3, offered_to = null, heartbeat_at = clock_timestamp()
		from freshet.sink s
		where l.id = $1 and l.epoch = $2 and l.holder is null and l.finished_at is null and s.id = l.sink_id
		returning s.id, s.name, l.kind, l.target, l.part, l.epoch, l.nonce, l.stamped, l.cursor, l.as_of, l.recut, l.closing, l.life, l.rival is not null`,
		id, epoch, worker).Scan(&l.SinkID, &l.Sink, &l.Kind, &l.Target, &l.Part, &l.Epoch, &l.Nonce, &l.Stamped, &l.Cursor, &l.AsOf, &l.Recut, &l.Closing, &l.Life, &l.Rivalled)
	if errors.Is(err, pgx.ErrNoRows) {
		return Lease{}, ErrNotOurs
	}
	if err != nil {
		return Lease{}, fmt.Errorf("take lease %d: %w", id, err)
	}
	return l, nil
}

// Confirm asks whether a lease is still held under this epoch and nonce, for a sink of
// this definition, and returns ErrNotOurs if it is not. Asked after a control key was watched, the answer holds until
// somebody else touches the key: who takes a lease asks Postgres first and the key next.
func Confirm(ctx context.Context, db Querier, id, epoch int64, nonce string, definition int32) error {
	var ours bool
	err := db.QueryRow(ctx, `
		select exists (
			select from freshet.lease l join freshet.sink s on s.id = l.sink_id
			where l.id = $1 and l.epoch = $2 and l.nonce = $3 and l.holder is not null and s.definition = $4)`,
		id, epoch, nonce, definition).Scan(&ours)
	if err != nil {
		return fmt.Errorf("confirm lease %d: %w", id, err)
	}
	if !ours {
		return ErrNotOurs
	}
	return nil
}

// Installation reads the id that was drawn when Freshet was installed.
func Installation(ctx context.Context, db Querier) (string, error) {
	var id string
	if err := db.QueryRow(ctx, "select id from freshet.installation").Scan(&id); err != nil {
		return "", fmt.Errorf("read installation id: %w", err)
	}
	return id, nil
}

// Incarnation reads which life of the database this is, and draws a value if a
// crash has emptied it.
func Incarnation(ctx context.Context, db Querier) (string, error) {
	var id *string
	if err := db.QueryRow(ctx, "select freshet.incarnation()").Scan(&id); err != nil {
		return "", fmt.Errorf("read incarnation: %w", err)
	}
	if id != nil {
		return *id, nil
	}
	if err := db.QueryRow(ctx, "select freshet.renew_incarnation()").Scan(&id); err != nil {
		return "", fmt.Errorf("draw incarnation: %w", err)
	}
	if id == nil {
		return "", errors.New("draw incarnation: the value is still missing")
	}
	return *id, nil
}

// NoteLife notes what database and target have been through with the control key of a lease
// in place.
func NoteLife(ctx context.Context, db Querier, l *Lease, life *string) error {
	if life == nil || (l.Life != nil && *l.Life == *life) {
		return nil
	}
	var id int64
	err := db.QueryRow(ctx, "update freshet.lease set life = $3 where id = $1 and epoch = $2 returning id", l.ID, l.Epoch, life).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotOurs
	}
	if err != nil {
		return fmt.Errorf("note what the target has been through: %w", err)
	}
	l.Life = life
	return nil
}

// Stamp notes that the control key of a lease is about to be written for the first time,
// under this definition of its sink. It returns ErrNotOurs when the lease has passed on or
// the sink was redefined.
func Stamp(ctx context.Context, db Querier, id, epoch int64, definition int32) error {
	var ours bool
	if err := db.QueryRow(ctx, "select freshet.stamp_lease($1, $2, $3)", id, epoch, definition).Scan(&ours); err != nil {
		return fmt.Errorf("note first write: %w", err)
	}
	if !ours {
		return ErrNotOurs
	}
	return nil
}
