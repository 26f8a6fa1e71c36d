package fence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/target"
)

const control = "freshet:test:1:0"

// place is a target with a client to look at it from outside.
type place struct {
	t      *testing.T
	target *target.Target
	redis  *redis.Client
}

func newPlace(t *testing.T, url string) *place {
	t.Helper()
	to, err := target.Parse("default", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return &place{t: t, target: to, redis: client}
}

func sharedPlace(t *testing.T) *place {
	t.Helper()
	t.Parallel()
	return newPlace(t, serverstest.Redis(t))
}

func (p *place) open() *fence.Writer {
	p.t.Helper()
	w, err := fence.Open(p.t.Context(), p.target, control, "")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { w.Close() })
	return w
}

// taken opens a writer that has the fence, at this cursor.
func (p *place) taken(f fence.Fence, cursor string) *fence.Writer {
	p.t.Helper()
	w := p.open()
	if err := w.Take(p.t.Context(), f, cursor); err != nil {
		p.t.Fatal(err)
	}
	return w
}

// holds compares the control key and an entry, "" for what is not there.
func (p *place) holds(f, cursor, key, value string) {
	p.t.Helper()
	state := p.redis.HGetAll(p.t.Context(), control).Val()
	if state["fence"] != f || state["cursor"] != cursor {
		p.t.Errorf("the control key holds %q, want fence %q and cursor %q", state, f, cursor)
	}
	if got := p.redis.Get(p.t.Context(), key).Val(); got != value {
		p.t.Errorf("%s is %q, want %q", key, got, value)
	}
}

func fenced(epoch int64) fence.Fence {
	return fence.Fence{Incarnation: "1.2.3.abc", Definition: 1, Epoch: epoch, Nonce: fmt.Sprintf("n%d", epoch)}
}

// entries are keys and values; "-" means absent.
type entries [][2]string

func (e entries) Len() int         { return len(e) }
func (e entries) Key(i int) []byte { return []byte(e[i][0]) }
func (e entries) Value(i int) ([]byte, bool) {
	return []byte(e[i][1]), e[i][1] != "-"
}

func (e entries) Expires(int) int64 { return 0 }

func TestEntriesAndCursorLandTogether(t *testing.T) {
	p := sharedPlace(t)
	w := p.open()
	if s := w.State(); s.Exists {
		t.Fatalf("an empty server has the control key %+v", s)
	}
	f := fenced(1)
	if err := w.Take(t.Context(), f, "c0"); err != nil {
		t.Fatal(err)
	}
	p.redis.Set(t.Context(), "gone", "x", 0)
	if err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}, {"gone", "-"}, {"empty", ""}, {"never", "-"}}); err != nil {
		t.Fatal(err)
	}
	p.holds(f.String(), "c1", "a", "1")
	if n := p.redis.Exists(t.Context(), "gone", "never").Val(); n != 0 {
		t.Errorf("%d absent entries are there", n)
	}
	if n := p.redis.Exists(t.Context(), "empty").Val(); n != 1 {
		t.Error("an entry with an empty value is not there")
	}
	if err := w.Write(t.Context(), f, "c1", "c2", nil); err != nil {
		t.Fatal(err)
	}
	p.holds(f.String(), "c2", "a", "1")
	if want := (fence.State{Exists: true, Fence: f.String(), Cursor: "c2"}); w.State() != want {
		t.Errorf("the writer expects %+v, want %+v", w.State(), want)
	}

	// More than one command holds.
	var many entries
	for i := range 5003 {
		value := fmt.Sprint(i)
		if i%2 == 0 {
			value = "-"
		}
		many = append(many, [2]string{fmt.Sprintf("m%d", i), value})
	}
	for i := range 5003 {
		p.redis.Set(t.Context(), fmt.Sprintf("m%d", i), "old", 0)
	}
	if err := w.Write(t.Context(), f, "c2", "c3", many); err != nil {
		t.Fatal(err)
	}
	for i := range 5003 {
		if got, want := p.redis.Get(t.Context(), fmt.Sprintf("m%d", i)).Val(), strings.Trim(many[i][1], "-"); got != want {
			t.Fatalf("m%d is %q, want %q", i, got, want)
		}
	}
}

func TestWriteIsRefusedWhenTheControlKeyIsNotAsRead(t *testing.T) {
	for name, disturb := range map[string]func(ctx context.Context, r *redis.Client) error{
		"another fence":  func(ctx context.Context, r *redis.Client) error { return r.HSet(ctx, control, "fence", "x").Err() },
		"another cursor": func(ctx context.Context, r *redis.Client) error { return r.HSet(ctx, control, "cursor", "x").Err() },
		"the same value": func(ctx context.Context, r *redis.Client) error { return r.HSet(ctx, control, "cursor", "c0").Err() },
		"deleted":        func(ctx context.Context, r *redis.Client) error { return r.Del(ctx, control).Err() },
		"flushed":        func(ctx context.Context, r *redis.Client) error { return r.FlushDB(ctx).Err() },
		"expired": func(ctx context.Context, r *redis.Client) error {
			return r.PExpire(ctx, control, time.Millisecond).Err()
		},
		"renamed": func(ctx context.Context, r *redis.Client) error { return r.Rename(ctx, control, "elsewhere").Err() },
		"another type": func(ctx context.Context, r *redis.Client) error {
			return errors.Join(r.Del(ctx, control).Err(), r.Set(ctx, control, "x", 0).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := sharedPlace(t)
			f := fenced(1)
			w := p.taken(f, "c0")
			if err := disturb(t.Context(), p.redis); err != nil {
				t.Fatal(err)
			}
			if name == "expired" {
				for p.redis.Exists(t.Context(), control).Val() != 0 {
					time.Sleep(time.Millisecond)
				}
			}
			before := p.redis.Dump(t.Context(), control).Val()
			for range 2 { // and it stays refused
				if err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}}); !errors.Is(err, fence.ErrFenced) {
					t.Errorf("the write came to %v", err)
				}
			}
			if err := w.Take(t.Context(), f, "c0"); !errors.Is(err, fence.ErrFenced) {
				t.Errorf("taking it again over the same connection came to %v", err)
			}
			if n := p.redis.Exists(t.Context(), "a").Val(); n != 0 {
				t.Error("the refused batch was applied")
			}
			if after := p.redis.Dump(t.Context(), control).Val(); after != before {
				t.Errorf("the refused batch changed the control key: %q", p.redis.HGetAll(t.Context(), control))
			}
		})
	}
}

func TestNewerWriterRefusesTheOlderForEver(t *testing.T) {
	p := sharedPlace(t)
	old, young := fenced(1), fenced(2)
	first := p.taken(old, "c0")
	second := p.open()
	if s := second.State(); s.Fence != old.String() || s.Cursor != "c0" {
		t.Fatalf("the second writer reads %+v", s)
	}
	if err := second.Take(t.Context(), young, "c0"); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(t.Context(), old, "c0", "c1", entries{{"a", "old"}}); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the older writer's write came to %v", err)
	}
	if err := second.Write(t.Context(), young, "c0", "c1", entries{{"a", "young"}}); err != nil {
		t.Fatal(err)
	}
	// A new connection does not help it either: it reads whose turn it is.
	again := p.open()
	if err := again.Write(t.Context(), old, "c0", "c2", entries{{"a", "old"}}); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the older writer's write over a new connection came to %v", err)
	}
	if err := again.Write(t.Context(), old, "c1", "c2", entries{{"a", "old"}}); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the older writer's write from the right cursor came to %v", err)
	}
	p.holds(young.String(), "c1", "a", "young")
	if err := second.Write(t.Context(), young, "c1", "c2", entries{{"a", "younger"}}); err != nil {
		t.Errorf("attempts of the older writer disturb the younger: %v", err)
	}
}

func TestTwoTakersOneWins(t *testing.T) {
	p := sharedPlace(t)
	a, b := p.open(), p.open()
	if err := a.Take(t.Context(), fenced(1), "c0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Take(t.Context(), fenced(2), "c0"); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the second taker had read the key before the first wrote it: %v", err)
	}
	p.holds(fenced(1).String(), "c0", "a", "")
}

func TestEachPartOfTheFenceCounts(t *testing.T) {
	p := sharedPlace(t)
	f := fenced(1)
	p.taken(f, "c0")
	for name, other := range map[string]fence.Fence{
		"incarnation": {Incarnation: "1.2.3.def", Definition: f.Definition, Epoch: f.Epoch, Nonce: f.Nonce},
		"definition":  {Incarnation: f.Incarnation, Definition: 2, Epoch: f.Epoch, Nonce: f.Nonce},
		"epoch":       {Incarnation: f.Incarnation, Definition: f.Definition, Epoch: 0, Nonce: f.Nonce},
		"nonce":       {Incarnation: f.Incarnation, Definition: f.Definition, Epoch: f.Epoch, Nonce: "other"},
	} {
		if err := p.open().Write(t.Context(), other, "c0", "c1", entries{{"a", name}}); !errors.Is(err, fence.ErrFenced) {
			t.Errorf("with another %s the write came to %v", name, err)
		}
	}
	if err := p.open().Write(t.Context(), f, "before", "c1", entries{{"a", "cursor"}}); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("from another cursor the write came to %v", err)
	}
	p.holds(f.String(), "c0", "a", "")
}

func TestNothingIsWrittenAfterALostConnection(t *testing.T) {
	// CLIENT KILL reaches all databases of a server.
	t.Parallel()
	p := newPlace(t, serverstest.RedisServer(t, nil).URL())
	f := fenced(1)
	w := p.taken(f, "c0")
	ids := func() (list []string) {
		for line := range strings.Lines(p.redis.ClientList(t.Context()).Val()) {
			if strings.Contains(line, "name=freshet ") {
				list = append(list, strings.TrimPrefix(strings.Fields(line)[0], "id="))
			}
		}
		return list
	}
	open := ids()
	if len(open) != 1 {
		t.Fatalf("%d connections of the writer", len(open))
	}
	if n, err := p.redis.ClientKillByFilter(t.Context(), "ID", open[0]).Result(); err != nil || n != 1 {
		t.Fatalf("killed %d connections, %v", n, err)
	}
	var first error
	for range 3 {
		err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}})
		if err == nil {
			t.Fatal("a write without its WATCH was accepted")
		}
		if errors.Is(err, fence.ErrFenced) {
			t.Errorf("a lost connection was taken for a refusal: %v", err)
		}
		if first == nil {
			first = err
		}
	}
	p.holds(f.String(), "c0", "a", "")
	if left := ids(); len(left) != 0 {
		t.Errorf("the writer dialled again: %v", left)
	}
	// The key itself says what landed: whoever comes next goes on from there.
	again := p.open()
	if s := again.State(); s.Fence != f.String() || s.Cursor != "c0" {
		t.Errorf("after the loss the key says %+v", s)
	}
	if err := again.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}}); err != nil {
		t.Error(err)
	}
	p.holds(f.String(), "c1", "a", "1")
}

func TestClosedWriterWritesNothing(t *testing.T) {
	p := sharedPlace(t)
	f := fenced(1)
	w := p.taken(f, "c0")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}}); err == nil {
		t.Error("a closed writer's write was accepted")
	}
	p.holds(f.String(), "c0", "a", "")
}

func TestCancelledWriteIsAllOrNothing(t *testing.T) {
	p := sharedPlace(t)
	f := fenced(1)
	w := p.taken(f, "c0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := w.Write(ctx, f, "c0", "c1", entries{{"a", "1"}})
	s := p.open().State()
	if landed := p.redis.Get(t.Context(), "a").Val() == "1"; landed != (s.Cursor == "c1") {
		t.Errorf("the entry landed: %v, and the cursor is %s", landed, s.Cursor)
	} else if !landed && err == nil {
		t.Error("the write did not land and gave no error")
	}
}

func TestFullServerAppliesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, serverstest.RedisServer(t, map[string]string{"maxmemory-policy": "noeviction"}).URL())
	f := fenced(1)
	w := p.taken(f, "c0")
	p.redis.Set(t.Context(), "b", "old", 0)
	if err := p.redis.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}, {"b", "-"}})
	if err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Errorf("a full server's answer came out as %v", err)
	}
	p.holds(f.String(), "c0", "a", "")
	if got := p.redis.Get(t.Context(), "b").Val(); got != "old" {
		t.Errorf("half of the batch was applied: b is %q", got)
	}
	if err := p.redis.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.open().Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}, {"b", "-"}}); err != nil {
		t.Error(err)
	}
	p.holds(f.String(), "c1", "a", "1")
}

// momentary are entries that expire at a moment.
type momentary struct{ entries }

func (momentary) Expires(int) int64 { return time.Now().Add(time.Hour).UnixMilli() }

// older stands before a server as one that does not know SET … PXAT.
func older(t *testing.T, addr string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", addr)
			if err != nil {
				from.Close()
				return
			}
			go func() {
				defer from.Close()
				_, _ = io.Copy(from, to)
			}()
			go func() {
				defer to.Close()
				piece := make([]byte, 1<<16)
				for {
					n, err := from.Read(piece)
					if err != nil {
						return
					}
					if _, err := to.Write(bytes.ReplaceAll(piece[:n], []byte("pxat"), []byte("what"))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "redis://" + listener.Addr().String()
}

// A command that fails while the transaction is executed does not undo the others, and not
// the cursor that says that all of them were applied.
func TestFailureInsideATransactionPutsTheControlKeyBack(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	p := newPlace(t, server.URL())
	p.target = newPlace(t, older(t, p.redis.Options().Addr)).target
	f := fenced(1)
	w := p.taken(f, "c0")
	w.Reached("0/1")
	if err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}}); err != nil {
		t.Fatal(err)
	}
	w.Reached("0/2")
	err := w.Write(t.Context(), f, "c1", "c2", momentary{entries{{"a", "2"}}})
	if err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Fatalf("the write came out as %v", err)
	}
	p.holds(f.String(), "c1", "a", "1")
	s := p.open().State()
	if s.Reached != "0/1" {
		t.Errorf("the key says %+v", s)
	}
	if err := w.Write(t.Context(), f, "c1", "c2", entries{{"a", "2"}}); err == nil {
		t.Error("the writer goes on after an error")
	}
	if err := p.target.KnowsMoments(t.Context()); !errors.Is(err, target.ErrUnsuitable) || !strings.Contains(err.Error(), "6.2") {
		t.Errorf("asked for moments, an older server is found to be %v", err)
	}
	if err := newPlace(t, server.URL()).target.KnowsMoments(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReplicaAppliesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, serverstest.RedisServer(t, nil).URL())
	f := fenced(1)
	w := p.taken(f, "c0")
	// Of a primary that is not there: reads go on, writes are refused.
	if err := p.redis.SlaveOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), f, "c0", "c1", entries{{"a", "1"}}); err == nil || errors.Is(err, fence.ErrFenced) {
		t.Errorf("a replica's answer came out as %v", err)
	}
	p.holds(f.String(), "c0", "a", "")
}

func TestRetiredKeyExpiresUnlessItIsTakenAgain(t *testing.T) {
	p := sharedPlace(t)
	f := fenced(1)
	w := p.taken(f, "c0")
	if ttl := p.redis.TTL(t.Context(), control).Val(); ttl != -1 {
		t.Fatalf("the key of a working lease expires in %v", ttl)
	}
	if err := w.Retire(t.Context(), f, "wrong", time.Minute); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("from another cursor, Retire came to %v", err)
	}
	if err := w.Retire(t.Context(), f, "c0", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.holds(f.String(), "c0", "a", "")
	if ttl := p.redis.TTL(t.Context(), control).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the retired key expires in %v", ttl)
	}
	next := p.taken(fenced(2), "c0")
	if ttl := p.redis.TTL(t.Context(), control).Val(); ttl != -1 {
		t.Errorf("the key that was taken again expires in %v", ttl)
	}
	if err := w.Retire(t.Context(), f, "c0", time.Minute); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("Retire of the older holder came to %v", err)
	}
	if err := next.Retire(t.Context(), fenced(2), "c0", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for p.redis.Exists(t.Context(), control).Val() != 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestRemoveDeletesOnlyOnesOwnKey(t *testing.T) {
	p := sharedPlace(t)
	old, young := fenced(1), fenced(2)
	first := p.taken(old, "c0")
	second := p.taken(young, "c0")
	if err := first.Remove(t.Context(), old, "c0"); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("Remove of the older holder came to %v", err)
	}
	p.holds(young.String(), "c0", "a", "")
	if err := second.Remove(t.Context(), young, "c0"); err != nil {
		t.Fatal(err)
	}
	p.holds("", "", "a", "")
	if err := second.Write(t.Context(), young, "c0", "c1", entries{{"a", "1"}}); err == nil {
		t.Error("a write after Remove was accepted")
	}
	p.holds("", "", "a", "")
}

func TestRefusalIsToldOnceAndDeletionsAreCounted(t *testing.T) {
	p := sharedPlace(t)
	var saw []error
	p.target.Observe(func(err error) { saw = append(saw, err) })
	f := fenced(1)
	w := p.taken(f, "c0")
	refused := 0
	w.OnRefusal(func() { refused++ })
	deleted, err := w.WriteAll(t.Context(), f, "c0", "c0", "c1", entries{{"a", "1"}, {"b", "-"}, {"c", "-"}})
	if err != nil {
		t.Fatal(err)
	}
	if deleted != 2 || refused != 0 || len(saw) != 0 {
		t.Errorf("%d deleted, %d refused, saw %v; want 2, 0 and nothing", deleted, refused, saw)
	}
	if err := p.redis.HSet(t.Context(), control, "fence", fenced(2).String()).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.Write(t.Context(), f, "c1", "c2", entries{{"a", "2"}}); !errors.Is(err, fence.ErrFenced) {
			t.Fatalf("the write came to %v", err)
		}
	}
	if told := len(saw) - 1; refused != 1 || told < 0 || !errors.Is(saw[told], fence.ErrFenced) {
		t.Errorf("%d refused, saw %v; want one refusal", refused, saw)
	}
	p.holds(fenced(2).String(), "c1", "a", "1")
}

// Another server's worker gives the owner key another value: whoever watches it is refused,
// and may see who it was only by opening anew.
func TestWriteIsRefusedWhenTheOwnerKeyGetsAnotherValue(t *testing.T) {
	p := sharedPlace(t)
	ctx := t.Context()
	owner := fence.OwnerKey("other value", 1)
	p.redis.Set(ctx, owner, fence.OwnerValue("users", "7.1.5.abc"), 0)
	open := func() *fence.Writer {
		t.Helper()
		w, err := fence.Open(ctx, p.target, fence.Key("other value", 1, "0"), owner)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		return w
	}
	f := fence.Fence{Incarnation: "7.1.5.abc", Definition: 1, Epoch: 1, Nonce: "n"}
	w := open()
	if err := w.Take(ctx, f, "0"); err != nil {
		t.Fatal(err)
	}
	other, err := fence.Open(ctx, p.target, fence.Key("other value", 1, "1"), owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	theirs := fence.OwnerValue("users", "7.2.5.def")
	other.Possess(theirs)
	if err := other.Take(ctx, fence.Fence{Incarnation: "7.2.5.def", Definition: 1, Epoch: 1, Nonce: "m"}, "0"); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(ctx, f, "0", "1", nil); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the write ended with %v", err)
	}
	if got := open().Owned(); got != theirs {
		t.Errorf("the owner key says %q, want %q", got, theirs)
	}
	// Whoever set it goes on, though the value changed under its own WATCH.
	if err := other.Write(ctx, fence.Fence{Incarnation: "7.2.5.def", Definition: 1, Epoch: 1, Nonce: "m"}, "0", "1", nil); err != nil {
		t.Errorf("its own next write ended with %v", err)
	}
}

// watchedEntries calls look before an entry is asked for.
type watchedEntries struct {
	entries
	look func(i int)
}

func (e watchedEntries) Value(i int) ([]byte, bool) {
	e.look(i)
	return e.entries.Value(i)
}

func TestManyEntriesAreWrittenInPartsAndTheCursorMovesLast(t *testing.T) {
	p := sharedPlace(t)
	large := strings.Repeat("x", 700_000)
	var e watchedEntries
	for i := range 4500 {
		e.entries = append(e.entries, [2]string{fmt.Sprint("key", i), "1"})
	}
	for i := range 3 {
		e.entries = append(e.entries, [2]string{fmt.Sprint("large", i), large})
	}
	e.entries = append(e.entries, [2]string{"gone", "-"})
	// seen are the cursors that the control key has had, and how many entries were there then.
	var seen []string
	e.look = func(int) {
		now := fmt.Sprint(p.redis.HGet(t.Context(), control, "cursor").Val(), " ", p.redis.DBSize(t.Context()).Val()-1)
		if !slices.Contains(seen, now) {
			seen = append(seen, now)
		}
	}
	f := fenced(1)
	w := p.taken(f, "c0")
	deleted, err := w.WriteAll(t.Context(), f, "c0", "within", "c1", e)
	if err != nil || deleted != 1 {
		t.Fatalf("%d deleted, %v; want 1", deleted, err)
	}
	// The first 500 small ones share a transaction with the first large one.
	if want := []string{"c0 0", "within 2000", "within 4000", "within 4501", "within 4502"}; !slices.Equal(seen, want) {
		t.Errorf("meanwhile there were %q; want %q", seen, want)
	}
	p.holds(f.String(), "c1", "large2", large)
	if _, err := w.WriteAll(t.Context(), f, "c1", "c1", "c2", entries{}); err != nil {
		t.Fatal(err)
	}
	p.holds(f.String(), "c2", "key4499", "1")
}
