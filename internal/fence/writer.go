package fence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/target"
)

// ErrFenced is returned when the control key holds another fence or cursor than this
// writer's, or was touched by anyone else: nothing of the batch was applied.
var ErrFenced = errors.New("another writer holds the fence")

// ErrUnowned is returned when the owner key is missing: the entries are nobody's, or
// another installation's.
var ErrUnowned = errors.New("the sink does not own its keys")

// State is what a control key says.
type State struct {
	Exists bool
	Fence  string
	Cursor string
	// Reached is a position in the WAL that was on Postgres' disk when the key was written; ""
	// is not known. A server that is not there yet has gone back in time since.
	Reached string
}

// Entries are what a batch writes.
type Entries interface {
	Len() int
	Key(i int) []byte
	// Value returns false if the entry must be absent.
	Value(i int) ([]byte, bool)
	// Expires is when the entry expires, in milliseconds since 1970; 0: as all of them do.
	Expires(i int) int64
}

const (
	fieldFence   = "fence"
	fieldCursor  = "cursor"
	fieldReached = "wal"

	// perCommand bounds the keys of one MSET or DEL, so that one command never holds the
	// server for much longer than a millisecond.
	perCommand = 1000

	// What one EXEC of WriteAll has at most: about two milliseconds of the server's time.
	execEntries = 2000
	execBytes   = 1 << 20
)

// Writer writes under one control key over one connection. It is not safe for
// concurrent use. After any error it is of no use: close it and open another.
type Writer struct {
	key string
	// owner is the key that says that the entries are the sink's; whoever takes them over
	// deletes it. Empty: not asked for.
	owner  string
	client *redis.Client
	conn   *redis.Conn
	// owned is the owner key's value, possess the one that it is to get with the next write.
	owned, possess string
	// reached is the position in the WAL that the next write leaves; "": the one that is there.
	reached string
	// watched is the control key as it was read under the WATCH that guards the next EXEC.
	watched State
	// entryTTL is the time to live of every entry that is set, 0 for ever.
	entryTTL time.Duration
	// expires: the key may have a time to live from an earlier holder or a Retire.
	expires bool
	// broken is the first error; with it, there is no WATCH to rely on.
	broken error
	// deleted is how many entries the last batch had to be absent.
	deleted int
	args    arguments
	target  *target.Target
	// refused is called when another writer was found to have the fence.
	refused func()
	told    bool
}

// Open connects, watches the control key and the owner key and reads them. An empty owner
// is not asked for.
func Open(ctx context.Context, t *target.Target, key, owner string) (*Writer, error) {
	client := t.Single()
	w := &Writer{key: key, owner: owner, client: client, conn: client.Conn(), expires: true, target: t}
	pipe := w.conn.Pipeline()
	watched := w.watch(ctx, pipe)
	_, err := pipe.Exec(ctx)
	if err = w.settle(err, watched); err != nil {
		return nil, errors.Join(fmt.Errorf("read control key: %w", err), w.Close())
	}
	return w, nil
}

// Owner is the owner key, empty if it is not asked for.
func (w *Writer) Owner() string { return w.owner }

// Owned is the value of the owner key.
func (w *Writer) Owned() string { return w.owned }

// Possess gives the owner key another value, together with the next write. Whoever else
// watches it is refused from then on.
func (w *Writer) Possess(value string) { w.possess = value }

// Reached has the next write note this position in the WAL, which has to be on disk by now.
func (w *Writer) Reached(position string) { w.reached = position }

// Key is the control key.
func (w *Writer) Key() string { return w.key }

// ExpireEntries gives every entry that is written from now on a time to live; 0 is for ever.
func (w *Writer) ExpireEntries(ttl time.Duration) { w.entryTTL = ttl }

// OnRefusal has f called once if a write is refused because another writer has the fence.
func (w *Writer) OnRefusal(f func()) { w.refused = f }

// refuse tells, once, that a write was refused.
func (w *Writer) refuse() error {
	if !w.told {
		w.told = true
		w.target.Saw(ErrFenced)
		if w.refused != nil {
			w.refused()
		}
	}
	return ErrFenced
}

// State is the control key as the next write expects it.
func (w *Writer) State() State { return w.watched }

// Close closes the connection, and with it the WATCH.
func (w *Writer) Close() error {
	w.broken = errors.Join(w.broken, errors.New("writer is closed"))
	return errors.Join(w.conn.Close(), w.client.Close())
}

// Take writes a fence over whatever the control key held when it was read: from here
// on every other writer is refused.
func (w *Writer) Take(ctx context.Context, f Fence, cursor string) error {
	return w.exec(ctx, w.as(f, cursor), nil, persist)
}

// Write applies a batch and moves the cursor, both or neither. The control key must
// hold f and from, as it does after Take or the write before.
func (w *Writer) Write(ctx context.Context, f Fence, from, to string, e Entries) error {
	want := w.as(f, from)
	if w.broken == nil && w.watched != want {
		return w.refuse()
	}
	return w.exec(ctx, w.as(f, to), e, persist)
}

// WriteAll is Write in as many transactions as it takes for none to hold the server for more than
// a few milliseconds. After each of them but the last the cursor is within. It returns how many
// entries had to be absent.
func (w *Writer) WriteAll(ctx context.Context, f Fence, from, within, to string, e Entries) (deleted int, err error) {
	for p := (part{Entries: e}); ; {
		p.next()
		last, cursor := p.to == e.Len(), within
		if last {
			cursor = to
		}
		if err := w.Write(ctx, f, from, cursor, p); err != nil {
			return deleted, err
		}
		if deleted += w.deleted; last {
			return deleted, nil
		}
		from = cursor
	}
}

// Retire lets the control key expire after ttl, as its last write under f.
func (w *Writer) Retire(ctx context.Context, f Fence, from string, ttl time.Duration) error {
	want := w.as(f, from)
	if w.broken == nil && w.watched != want {
		return w.refuse()
	}
	return w.exec(ctx, want, nil, ttl)
}

// Remove deletes the control key, as its last write under f.
func (w *Writer) Remove(ctx context.Context, f Fence, from string) error {
	want := w.as(f, from)
	if w.broken == nil && w.watched != want {
		return w.refuse()
	}
	return w.exec(ctx, State{}, nil, persist)
}

// as is a control key that says f and cursor, and otherwise what it says now.
func (w *Writer) as(f Fence, cursor string) State {
	return State{Exists: true, Fence: f.String(), Cursor: cursor, Reached: w.watched.Reached}
}

// persist keeps a control key for good.
const persist time.Duration = 0

// exec sends MULTI … EXEC and, in the same round trip, the WATCH and the read for the
// next one.
func (w *Writer) exec(ctx context.Context, next State, e Entries, ttl time.Duration) error {
	if errors.Is(w.broken, ErrFenced) {
		return w.refuse()
	}
	if w.broken != nil {
		return w.broken
	}
	pipe := w.conn.Pipeline()
	queued := []*redis.Cmd{pipe.Do(ctx, "multi")}
	queued = append(queued, w.queueEntries(ctx, pipe, e)...)
	if next.Exists {
		args := []any{"hset", w.key, fieldFence, next.Fence, fieldCursor, next.Cursor}
		if w.reached != "" {
			next.Reached, w.reached = w.reached, ""
			args = append(args, fieldReached, next.Reached)
		}
		queued = append(queued, pipe.Do(ctx, args...))
	} else {
		queued = append(queued, pipe.Do(ctx, "del", w.key))
	}
	if w.possess != "" && w.possess != w.owned {
		queued = append(queued, pipe.Do(ctx, "set", w.owner, w.possess))
		w.owned = w.possess
	}
	switch {
	case ttl > 0:
		queued = append(queued, pipe.Do(ctx, "pexpire", w.key, ttl.Milliseconds()))
	case w.expires:
		queued = append(queued, pipe.Do(ctx, "persist", w.key))
	}
	w.expires = ttl > 0
	exec := pipe.Do(ctx, "exec")
	watched := w.watch(ctx, pipe)

	before, owned := w.watched, w.owned
	_, pipeErr := pipe.Exec(ctx)
	w.args.forget()
	if err := applied(queued, exec); err != nil {
		// After a refusal the WATCH behind it stands, but whoever was refused has to look
		// anew in any case.
		w.broken = err
		if errors.Is(err, ErrFenced) {
			return w.refuse()
		}
		if pipeErr == nil {
			w.target.Saw(err) // a reply inside the transaction's
		}
		if errors.As(err, new(failedInside)) {
			if backErr := w.putBack(ctx, before, next, pipeErr, watched); backErr != nil {
				return fmt.Errorf("%w; the control key says that it was applied, and could not be put back: %w", err, backErr)
			}
		}
		return err
	}
	// EXEC was accepted. What went wrong after it concerns the next write.
	w.broken = w.settle(pipeErr, watched)
	if w.broken == nil && (w.watched != next || w.owned != owned) {
		w.broken = ErrFenced
	}
	return nil
}

// failedInside is the error of a command in a transaction that was executed all the same: the
// others were applied, and the control key says that all were.
type failedInside struct{ error }

// Unwrap returns what the server said.
func (e failedInside) Unwrap() error { return e.error }

// putBack has the control key say again what it said before a transaction that was applied in
// part: whoever goes on from there writes all of it once more. It is under the WATCH that came
// with the transaction, so nobody else's word is written over.
func (w *Writer) putBack(ctx context.Context, before, next State, pipeErr error, r watched) error {
	if err := w.settle(pipeErr, r); err != nil {
		return err
	}
	if w.watched != next {
		return nil // it was not moved, or is another's by now
	}
	pipe := w.conn.Pipeline()
	queued := []*redis.Cmd{pipe.Do(ctx, "multi"), pipe.Do(ctx, "del", w.key)}
	if before.Exists {
		args := []any{"hset", w.key, fieldFence, before.Fence, fieldCursor, before.Cursor}
		if before.Reached != "" {
			args = append(args, fieldReached, before.Reached)
		}
		queued = append(queued, pipe.Do(ctx, args...))
	}
	exec := pipe.Do(ctx, "exec")
	_, _ = pipe.Exec(ctx) // each reply is looked at
	return applied(queued, exec)
}

// queueEntries sends the entries: values in MSETs, or in SETs when they expire, and
// absences in DELs.
func (w *Writer) queueEntries(ctx context.Context, pipe redis.Pipeliner, e Entries) []*redis.Cmd {
	w.deleted = 0
	if e == nil {
		return nil
	}
	var cmds []*redis.Cmd
	w.args.reset(e.Len())
	flush := func(args []any) {
		if len(args) > 1 {
			cmds = append(cmds, pipe.Do(ctx, args...))
		}
	}
	sets, dels := w.args.command("mset", min(2*perCommand, 2*e.Len())), []any{"del"}
	for i := range e.Len() {
		value, present := e.Value(i)
		key := w.args.of(e.Key(i))
		if at := e.Expires(i); present && at > 0 {
			cmds = append(cmds, pipe.Do(ctx, "set", key, w.args.of(value), "pxat", at))
		} else if present && w.entryTTL > 0 {
			// MSET knows no expiry.
			cmds = append(cmds, pipe.Do(ctx, "set", key, w.args.of(value), "px", max(w.entryTTL.Milliseconds(), 1)))
		} else if present {
			if sets = append(sets, key, w.args.of(value)); len(sets) > 2*perCommand {
				flush(sets)
				sets = w.args.command("mset", min(2*perCommand, 2*(e.Len()-i)))
			}
		} else if dels = append(dels, key); len(dels) > perCommand {
			w.deleted += len(dels) - 1
			flush(dels)
			dels = []any{"del"}
		}
	}
	flush(sets)
	w.deleted += len(dels) - 1
	flush(dels)
	return cmds
}

// applied reports whether the transaction was executed whole.
func applied(queued []*redis.Cmd, exec *redis.Cmd) error {
	// A command refused at queue time (OOM, READONLY, NOPERM) says why; EXEC then only
	// says that it was aborted.
	for _, cmd := range queued {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	if errors.Is(exec.Err(), redis.Nil) {
		return ErrFenced
	}
	if err := exec.Err(); err != nil {
		return err
	}
	replies, ok := exec.Val().([]any)
	if !ok || len(replies) != len(queued)-1 {
		return fmt.Errorf("EXEC answered %T for %d commands: this server does not run transactions", exec.Val(), len(queued)-1)
	}
	for _, reply := range replies {
		if err, failed := reply.(error); failed {
			return failedInside{err}
		}
	}
	return nil
}

// watched are the replies to a WATCH and to the reads under it.
type watched struct {
	watch, read, owned *redis.Cmd
}

func (w *Writer) watch(ctx context.Context, pipe redis.Pipeliner) watched {
	read := func() *redis.Cmd { return pipe.Do(ctx, "hmget", w.key, fieldFence, fieldCursor, fieldReached) }
	if w.owner == "" {
		return watched{watch: pipe.Do(ctx, "watch", w.key), read: read()}
	}
	return watched{watch: pipe.Do(ctx, "watch", w.key, w.owner), read: read(), owned: pipe.Do(ctx, "get", w.owner)}
}

// settle takes over what was read under a new WATCH.
func (w *Writer) settle(pipeErr error, r watched) error {
	// Read and not only asked for, so that it is no idle key to a server that evicts.
	if r.owned != nil && errors.Is(r.owned.Err(), redis.Nil) && r.watch.Err() == nil && r.read.Err() == nil {
		return ErrUnowned
	}
	for _, cmd := range []*redis.Cmd{r.watch, r.read, r.owned} {
		if cmd != nil && cmd.Err() != nil {
			return cmd.Err()
		}
	}
	if pipeErr != nil {
		return pipeErr
	}
	if status, _ := r.watch.Val().(string); status != "OK" {
		return fmt.Errorf("WATCH answered %v", r.watch.Val())
	}
	fields, ok := r.read.Val().([]any)
	if !ok || len(fields) != 3 {
		return fmt.Errorf("HMGET answered %v", r.read.Val())
	}
	w.watched = Parsed(fields)
	if r.owned != nil {
		w.owned, _ = r.owned.Val().(string)
	}
	return nil
}

// Read reads a control key, or queues it where c is a pipeline, for Parsed.
func Read(ctx context.Context, c redis.Cmdable, key string) *redis.SliceCmd {
	return c.HMGet(ctx, key, fieldFence, fieldCursor, fieldReached)
}

// Parsed is what the reply to Read says.
func Parsed(fields []any) State {
	var s State
	if len(fields) != 3 {
		return s
	}
	if f, ok := fields[0].(string); ok {
		s.Fence, s.Exists = f, true
	}
	if c, ok := fields[1].(string); ok {
		s.Cursor, s.Exists = c, true
	}
	s.Reached, _ = fields[2].(string)
	return s
}
