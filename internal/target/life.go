package target

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Life is what the keys of a server have been through together. While it stays the same,
// the server was not restarted, has not become another's replica, and was never emptied:
// then a key can be missing only because it was evicted or deleted by itself.
type Life struct {
	id string
	// evicts: keys have been evicted under memory pressure.
	evicts bool
}

// Life reads the present life. Of a server that does not tell, nothing is known.
func (t *Target) Life(ctx context.Context) (Life, error) {
	pipe := t.shared.Pipeline()
	var sections []*redis.StringCmd
	for _, section := range []string{"server", "replication", "stats", "commandstats"} {
		sections = append(sections, pipe.Info(ctx, section))
	}
	_, err := pipe.Exec(ctx)
	facts := make(map[string]string)
	for _, s := range sections {
		text, sErr := s.Result()
		var reply redis.Error
		if errors.As(sErr, &reply) {
			return Life{}, nil // not permitted, or not known to this server
		}
		if sErr != nil {
			return Life{}, fmt.Errorf("target %s: read what has become of it: %w", t.Name, err)
		}
		addFacts(facts, text)
	}
	if facts["run_id"] == "" || facts["master_replid"] == "" || facts["evicted_keys"] == "" {
		return Life{}, nil
	}
	// Its first number counts the calls.
	flushes := func(command string) string {
		calls, _, _ := strings.Cut(facts["cmdstat_"+command], ",")
		return strings.TrimPrefix(calls, "calls=")
	}
	return Life{
		// With the number of the database: in another one of the same server nothing was evicted.
		id: strings.Join([]string{facts["run_id"], facts["master_replid"], strconv.Itoa(t.opts.DB),
			flushes("flushall"), flushes("flushdb"), flushes("swapdb")}, "."),
		evicts: facts["evicted_keys"] != "0",
	}, nil
}

// RunOf is which run of a server answers a client, and whose data it has; "" is not known.
func RunOf(ctx context.Context, client *redis.Client) (string, error) {
	facts := make(map[string]string)
	for _, section := range []string{"server", "replication"} {
		text, err := client.Info(ctx, section).Result()
		var reply redis.Error
		if errors.As(err, &reply) {
			return "", nil // not permitted, or not known to this server
		}
		if err != nil {
			return "", fmt.Errorf("ask who answers: %w", err)
		}
		addFacts(facts, text)
	}
	if facts["run_id"] == "" && facts["master_replid"] == "" {
		return "", nil
	}
	return facts["run_id"] + "." + facts["master_replid"], nil
}

// addFacts adds what a section of INFO says.
func addFacts(facts map[string]string, text string) {
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			facts[name] = value
		}
	}
}

// Note is what is kept of a life, together with the life of the database, for Evicted; nil
// if nothing is known.
func (l Life) Note(incarnation string) *string {
	if l.id == "" {
		return nil
	}
	note := incarnation + " " + l.id
	return &note
}

// Evicted reports whether a key that was there when note was taken, and is not now, was
// evicted, and nothing else lost.
func (l Life) Evicted(note *string, incarnation string) bool {
	return l.evicts && note != nil && l.id != "" && *note == *l.Note(incarnation)
}
