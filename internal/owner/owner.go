package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

// Owners is the key of the hash.
const Owners = key.Reserved + "owners"

const (
	// enoughForeign is how many foreign keys are counted.
	enoughForeign = 100_000
	// tries bounds how often others may change the hash while we look.
	tries = 10
)

// owner is the value of a field.
type owner struct {
	Sink string `json:"sink"`
	// Target is the name under which the sink writes here: two names may be one server.
	Target string `json:"target"`
	Key    string `json:"key"`
	// Tokens is the template as freshet.key_tokens lists it.
	Tokens []string `json:"tokens"`
}

// Obstacle is what keeps a sink from writing to a target. The zero value is none.
type Obstacle struct {
	// Keys of the sink's form are in the target and not from it.
	Keys int
	// By is who else writes such keys.
	By string
	// Twin: it is the sink itself, by another target that is the same server.
	Twin bool
}

func field(installation string, sink int32) string {
	return installation + ":" + strconv.Itoa(int(sink))
}

// owns reports whether a sink has claimed its keys on a target.
func owns(ctx context.Context, c task.Config, t *target.Target, sink int32) (bool, error) {
	pipe := t.Shared().Pipeline()
	listed := pipe.HGet(ctx, Owners, field(c.Installation, sink))
	key := pipe.Exists(ctx, fence.OwnerKey(c.Installation, sink))
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("target %s: read who owns its keys: %w", t.Name, err)
	}
	if listed.Err() != nil || key.Val() != 1 {
		return false, nil
	}
	self, err := parse(listed.Val())
	if err != nil || self.Target != t.Name {
		return false, err
	}
	return sameKeys(ctx, c, sink, self)
}

// sameKeys reports whether what is listed for a sink has its keys. A server that has gone back in
// time gives a number out again: then it is another sink's that is no more.
func sameKeys(ctx context.Context, c task.Config, sink int32, listed owner) (bool, error) {
	var same bool
	err := c.Control.QueryRow(ctx, "select freshet.key_tokens(key_parts) = $2 from freshet.sink where id = $1", sink, listed.Tokens).Scan(&same)
	if err != nil {
		return false, fmt.Errorf("compare keys with those that are listed: %w", err)
	}
	return same, nil
}

func parse(value string) (owner, error) {
	var o owner
	if err := json.Unmarshal([]byte(value), &o); err != nil {
		return o, fmt.Errorf("%s has a value that is not Freshet's: %w", Owners, err)
	}
	return o, nil
}

// Release gives the keys of a sink up.
func Release(ctx context.Context, c task.Config, t *target.Target, sink int32) error {
	_, err := t.Shared().TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HDel(ctx, Owners, field(c.Installation, sink))
		pipe.Del(ctx, fence.OwnerKey(c.Installation, sink))
		return nil
	})
	if err != nil {
		return fmt.Errorf("target %s: give up keys: %w", t.Name, err)
	}
	return nil
}

// Foreign is the server that writes the entries of a sink and is no past of this one, such as the
// one that this database is a copy of; "" if it is none. Another timeline of the same database, or
// what was before a backup was put back there, is its past.
func Foreign(ctx context.Context, installation string, t *target.Target, sink int32, incarnation string) (string, error) {
	value, err := t.Shared().Get(ctx, fence.OwnerKey(installation, sink)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("target %s: read who has written for sink %d: %w", t.Name, sink, err)
	}
	wrote := fence.OwnerServer(value)
	if wrote == "" || databaseOf(wrote) == databaseOf(fence.Server(incarnation)) {
		return "", nil
	}
	return wrote, nil
}

// contestTime is longer than a lane of another server takes to find that the owner key is no longer its own, and to take it back.
const contestTime = 3 * time.Second

// Rival is [Foreign] if that server's workers are alive: told by the owner key that the sink is this server's, they take it
// back. A database that was moved by a dump, or upgraded, is no copy of the one that has written before.
func Rival(ctx context.Context, installation string, t *target.Target, sink *catalog.Sink, incarnation string) (string, error) {
	foreign, err := Foreign(ctx, installation, t, sink.ID, incarnation)
	if err != nil || foreign == "" {
		return "", err
	}
	key := fence.OwnerKey(installation, sink.ID)
	if err := t.Shared().SetXX(ctx, key, fence.OwnerValue(sink.Name, incarnation), 0).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("target %s: ask whose sink %s is: %w", t.Name, sink.Name, err)
	}
	for until := time.Now().Add(contestTime); time.Now().Before(until); {
		again, err := Foreign(ctx, installation, t, sink.ID, incarnation)
		if err != nil || again != "" {
			return again, err
		}
		if _, err := task.Pause(ctx, nil, contestTime/30); err != nil {
			return "", err
		}
	}
	return "", nil
}

// databaseOf is the system and the database of a server: all but its timeline and what was drawn when it went back in time.
func databaseOf(server string) string {
	system, rest, _ := strings.Cut(server, ".")
	_, database, _ := strings.Cut(rest, ".")
	database, _, _ = strings.Cut(database, "-")
	return system + "." + database
}

// Claim makes the keys of a sink its own on a target, or says what stands in the way.
// Whoever is to write for the sink asks each time it begins, and gets [catalog.ErrNotOurs] once
// the sink has left the target.
func Claim(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink, incarnation string) (Obstacle, error) {
	return ClaimAgain(ctx, c, t, sink, incarnation, Obstacle{})
}

// ClaimAgain is Claim by who has seen an obstacle before. Keys that were there then are taken for
// still there, for another lane of the sink looks: it costs a walk through the whole target.
func ClaimAgain(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink, incarnation string, before Obstacle) (Obstacle, error) {
	mine, err := owns(ctx, c, t, sink.ID)
	if err != nil || mine {
		return Obstacle{}, err
	}
	var found Obstacle
	for range tries {
		err = t.Alone(func() error {
			return t.Shared().Watch(ctx, func(tx *redis.Tx) (err error) {
				found, err = claim(ctx, c, t, sink, incarnation, before, tx)
				return err
			}, Owners)
		})
		if !errors.Is(err, redis.TxFailedErr) {
			break
		}
	}
	if err != nil {
		return Obstacle{}, fmt.Errorf("target %s: claim keys: %w", t.Name, err)
	}
	return found, nil
}

// claim looks and claims in one transaction: it fails with redis.TxFailedErr when the hash
// was changed meanwhile, by another lane of the same sink for instance.
func claim(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink, incarnation string, before Obstacle, tx *redis.Tx) (Obstacle, error) {
	fields, err := tx.HGetAll(ctx, Owners).Result()
	if err != nil {
		return Obstacle{}, err
	}
	own, ownKey := field(c.Installation, sink.ID), fence.OwnerKey(c.Installation, sink.ID)
	twin := ""
	if value, listed := fields[own]; listed {
		other, err := parse(value)
		if err != nil {
			return Obstacle{}, err
		}
		same, err := sameKeys(ctx, c, sink.ID, other)
		if err != nil {
			return Obstacle{}, err
		}
		if same && other.Target == t.Name {
			// Only the key is missing: evicted, or deleted by hand.
			// Not written over if another lane was faster: that would break what others watch.
			return Obstacle{}, tx.SetNX(ctx, ownKey, fence.OwnerValue(sink.Name, incarnation), 0).Err()
		}
		if other.Target != t.Name {
			twin = other.Target
		}
	}
	var (
		self         = owner{Sink: sink.Name, Target: t.Name}
		wrote, adopt bool
		lanes        bool
		parts        []string
		lives        []string
		dropping     bool
	)
	err = c.Control.QueryRow(ctx, `
		select s.key, freshet.key_tokens(s.key_parts), coalesce(pg_catalog.bool_or(l.stamped), false), coalesce(pg_catalog.bool_or(l.adopt), false),
		       coalesce(pg_catalog.bool_or(l.kind = 'sync'), false), coalesce(pg_catalog.array_agg(l.part), '{}'),
		       coalesce(pg_catalog.array_agg(distinct case when l.blocked is null and l.blocked_by is null then coalesce(l.life, '') else '' end)
		                filter (where l.kind = 'sync' and l.stamped), '{}'),
		       s.state = 'dropping'
		from freshet.sink s
		left join freshet.lease l on l.sink_id = s.id and l.target = $2 and l.kind in ('sync', 'retired')
		where s.id = $1
		group by s.id`, sink.ID, t.Name).Scan(&self.Key, &self.Tokens, &wrote, &adopt, &lanes, &parts, &lives, &dropping)
	if err != nil {
		return Obstacle{}, fmt.Errorf("read what the sink has written: %w", err)
	}
	// Both asked under the WATCH: whoever gives the keys up has ended the lanes before, or the
	// sink is being dropped.
	if dropping && !sink.Dropping {
		return Obstacle{}, task.ErrGone
	}
	if !lanes && !sink.Dropping {
		return Obstacle{}, fmt.Errorf("the sink has left target %s: %w", t.Name, catalog.ErrNotOurs)
	}
	if sink.Dropping {
		adopt = false // nothing is to be taken over any more
	}
	rivals, err := rivals(ctx, c, sink.ID, self, fields)
	if err != nil {
		return Obstacle{}, err
	}
	if twin != "" && !adopt {
		return Obstacle{By: fmt.Sprintf("the same sink for the target %q, which is the same server,", twin), Twin: true}, nil
	}
	for _, r := range rivals {
		if r.who != "" && (!adopt || r.leaves) {
			return Obstacle{By: r.who}, nil
		}
	}
	// What a sink has written before is its own, whoever forgot that it is.
	if !wrote && !adopt {
		foreign := before.Keys
		if foreign == 0 {
			if foreign, err = count(ctx, c, t, sink); err != nil {
				return Obstacle{}, err
			}
		}
		if foreign > 0 {
			// Unless another lane of the sink has begun to write while we looked.
			mine, err := owns(ctx, c, t, sink.ID)
			if mine || err != nil {
				return Obstacle{}, err
			}
			return Obstacle{Keys: foreign}, nil
		}
	}
	again, err := begunBefore(ctx, c, tx, sink.ID, parts)
	if err != nil {
		return Obstacle{}, err
	}
	if again && !adopt && len(lives) == 1 {
		// Unless the target has only evicted what said that they are its own.
		is, err := t.Life(ctx)
		if err != nil {
			return Obstacle{}, err
		}
		again = !is.Evicted(&lives[0], incarnation)
	}
	if (adopt || again) && !sink.Dropping {
		// Consequences first: what others wrote meanwhile has to be looked at, entry by entry.
		if err := c.Rewarm(ctx, sink.ID, sink.Name, t.Name, metrics.Adopted, true); err != nil {
			return Obstacle{}, err
		}
	}
	value, err := json.Marshal(self)
	if err != nil {
		return Obstacle{}, err
	}
	_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, r := range rivals {
			pipe.HDel(ctx, Owners, r.field)
			pipe.Del(ctx, r.key)
		}
		pipe.HSet(ctx, Owners, own, value)
		pipe.Set(ctx, ownKey, fence.OwnerValue(sink.Name, incarnation), 0)
		return nil
	})
	return Obstacle{}, err
}

// begunBefore reports whether a control key of the sink's lanes is there: then its keys
// were its own and are no longer, without the target having lost everything, which the
// lanes notice by themselves.
func begunBefore(ctx context.Context, c task.Config, tx *redis.Tx, sink int32, parts []string) (bool, error) {
	keys := make([]string, len(parts))
	for i, part := range parts {
		keys[i] = fence.Key(c.Installation, sink, part)
	}
	if len(keys) == 0 {
		return false, nil
	}
	n, err := tx.Exists(ctx, keys...).Result()
	return n > 0, err
}

// rival is another owner: its field, its owner key, and what to call it; nothing if it is
// no more.
type rival struct {
	field, key, who string
	// leaves: it is removing what it has there, and is waited for whatever else is said.
	leaves bool
}

// rivals are the other sinks that could write the same keys: those of other installations,
// and those of this one that name the same server by another target. What they name alike is
// kept apart when they are created.
func rivals(ctx context.Context, c task.Config, sink int32, self owner, fields map[string]string) ([]rival, error) {
	var found []rival
	others, err := overlapping(ctx, c, field(c.Installation, sink), self, fields)
	if err != nil {
		return nil, err
	}
	for name, other := range others {
		installation, number, _ := strings.Cut(name, ":")
		id, err := strconv.ParseInt(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s has the field %q: %w", Owners, name, err)
		}
		leaves := false
		who := fmt.Sprintf("the sink %q of another installation (%s)", other.Sink, installation)
		if installation == c.Installation {
			// An old dump of the target remembers sinks that were dropped since.
			var there bool
			if err := c.Control.QueryRow(ctx, `
				select exists (select from freshet.sink where id = $1),
				       exists (select from freshet.lease where sink_id = $1 and target = $2 and closing)`, id, other.Target).Scan(&there, &leaves); err != nil {
				return nil, fmt.Errorf("look for sink %d: %w", id, err)
			}
			if !there {
				found = append(found, rival{field: name, key: fence.OwnerKey(installation, int32(id))})
				continue
			}
			who = fmt.Sprintf("the sink %q, for which this server is the target %q,", other.Sink, other.Target)
		}
		found = append(found, rival{name, fence.OwnerKey(installation, int32(id)), who, leaves})
	}
	return found, nil
}

// overlapping are the owners by their fields, except one's own, that could write the same keys as self. They are compared in
// one statement: a worker with many sinks compares each with all.
func overlapping(ctx context.Context, c task.Config, own string, self owner, fields map[string]string) (map[string]owner, error) {
	others, tokens := make(map[string]owner), make(map[string][]string)
	for name, value := range fields {
		if name == own {
			continue
		}
		other, err := parse(value)
		if err != nil {
			return nil, err
		}
		others[name], tokens[name] = other, append([]string{}, other.Tokens...)
	}
	if len(others) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(tokens)
	if err != nil {
		return nil, fmt.Errorf("compare keys: %w", err)
	}
	rows, err := c.Control.Query(ctx, `
		select o.key from jsonb_each($2::jsonb) as o
		where not freshet.tokens_overlap($1, array(select jsonb_array_elements_text(o.value)))`, self.Tokens, string(text))
	if err != nil {
		return nil, fmt.Errorf("compare keys: %w", err)
	}
	apart, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("compare keys: %w", err)
	}
	for _, name := range apart {
		delete(others, name)
	}
	return others, nil
}

// count counts the keys of the sink's form, up to a limit.
func count(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink) (int, error) {
	foreign := make(map[string]struct{})
	err := scan.Keys(ctx, c.Control, t, sink, nil, func(keys []string, _ [][]string) error {
		for _, key := range keys {
			foreign[key] = struct{}{}
		}
		if len(foreign) >= enoughForeign {
			return scan.ErrStopped
		}
		return nil
	})
	if err != nil && !errors.Is(err, scan.ErrStopped) {
		return 0, err
	}
	return len(foreign), nil
}
