package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/worker"
)

// holding are what the transform test_hangs waits for, and says when it does, by the name of a row.
var holding sync.Map

type hold struct {
	reached, released chan struct{}
	once              sync.Once
}

// hangs has test_hangs wait at rows of this name, until release is called.
func hangs(name string) (reached <-chan struct{}, release func()) {
	h := &hold{reached: make(chan struct{}), released: make(chan struct{})}
	holding.Store(name, h)
	return h.reached, sync.OnceFunc(func() { close(h.released) })
}

func init() {
	worker.RegisterTransform("test_label", func(_ context.Context, r worker.Record) (worker.Value, error) {
		if r.IsNull("name") {
			return worker.None(), nil
		}
		id, err := r.Int64("id")
		if err != nil {
			return worker.None(), err
		}
		if name := r.Text("name"); name == "panic" {
			panic("so it was asked for")
		} else if name == "illegible" {
			panic("a\x00b\xff→" + strings.Repeat("c", 1<<20))
		}
		return worker.JSON(map[string]any{"id": id, "label": strings.ToUpper(r.Text("name")) + "/" + r.Key()}), nil
	})
	worker.RegisterTransform("test_hangs", func(_ context.Context, r worker.Record) (worker.Value, error) {
		if h, ok := holding.Load(r.Text("name")); ok {
			h := h.(*hold)
			h.once.Do(func() { close(h.reached) })
			<-h.released
		}
		return worker.Text(r.Text("name")), nil
	})
}

const (
	labels = `select 'goods:' || id, jsonb_build_object('id', id, 'label', upper(name) || '/goods:' || id)::text from goods
		where name is not null and name <> 'panic'`
	goStatus = "select state || ': ' || coalesce(last_error, '') from freshet.status where sink = 'goods'"
)

func TestGoTransformMakesTheEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) select g, case when g % 7 > 0 then 'n' || g % 10 end from generate_series(1, 700) g")
	e.exec("insert into goods (id, name) values (1000, 'panic')")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_label', columns => '{id,name}')")
	e.start()
	e.lastBackfill("goods")
	inStep := func() {
		t.Helper()
		e.settle()
		e.inStep("goods:*", labels)
	}
	inStep()
	e.awaitFailing("goods:1000")
	if text := one[string](e, "select error from freshet.failures"); text != "test_label: panic: so it was asked for" {
		t.Errorf("the view failures says %q", text)
	}
	e.exec("update goods set name = 'n' || id % 9 where id % 5 = 0")
	e.exec("update goods set name = null where id % 11 = 0; delete from goods where id % 13 = 0; update goods set name = 'panic' where id = 8")
	inStep()
	e.awaitFailing("goods:8")
	// A full backfill ends with a sweep, which asks the function as well.
	if err := e.redis.Set(t.Context(), "goods:77", "left", 0).Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("select freshet.backfill('goods')")
	e.lastBackfill("goods")
	inStep()
}

// What a function says is kept in Postgres, which does not take any bytes.
func TestErrorOfAGoTransformThatIsNoTextIsOneEntrys(t *testing.T) {
	e := newEnvOf(t, "LATIN1")
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) select g, 'n' || g from generate_series(1, 20) g")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_label', columns => '{id,name}')")
	e.start()
	e.settle()
	e.exec("update goods set name = case id when 7 then 'illegible' else 'changed' end")
	e.awaitFailing("goods:7")
	e.settle()
	e.inStep("goods:*", labels+" and id <> 7")
	if text := one[string](e, "select error from freshet.failures"); !strings.HasPrefix(text, "test_label: panic: a?b??ccc") || len(text) > 4000 {
		t.Errorf("the view failures says %q", text)
	}
}

// Workers that lack a function leave its jobs to those that have it, and do all the rest.
func TestGoTransformIsLeftToWorkersThatHaveIt(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) select g, 'n' || g % 10 from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_label', columns => '{id,name}')")
	e.exec("select freshet.create_sink('plain', 'goods', key => 'plain:${id}', columns => '{id}')")
	plain := "select 'plain:' || id, jsonb_build_object('id', id)::text from goods"
	e.worker()
	e.follow("plain:*", plain)
	const unserved = `unserved: no worker that serves target default has the Go transform test_label: run one in a program that calls worker.RegisterTransform("test_label", ...)`
	e.await("status says what is missing", func() bool { return one[string](e, goStatus) == unserved })
	if n := one[int](e, "select count(*) from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = 'goods' and l.holder is not null"); n != 0 {
		t.Errorf("%d leases of the sink are held by a worker without its function", n)
	}

	// Somebody who has it comes, and goes.
	before := one[int64](e, "select max(epoch) from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = 'goods'")
	// Whoever lacks the function does not take the lease over either, silent as it is.
	e.admin().exec("update freshet.lease l set heartbeat_at = now() - interval '1 minute' from freshet.sink s where s.id = l.sink_id and s.name = 'goods'")
	looked := one[time.Time](e, "select clock_timestamp() + interval '2 s'")
	e.await("silent leases were looked for", func() bool {
		return one[bool](e, "select bool_or(heartbeat_at > $1) from freshet.worker", looked)
	})
	if after := one[int64](e, "select max(epoch) from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = 'goods'"); after != before {
		t.Errorf("workers without the function took the lane from epoch %d to %d", before, after)
	}
	// Nor does the one that comes now have to take it over.
	e.admin().exec("update freshet.lease l set heartbeat_at = now() from freshet.sink s where s.id = l.sink_id and s.name = 'goods'")
	stop := e.start()
	e.follow("goods:*", labels)
	if after := one[int64](e, "select max(epoch) from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = 'goods' and l.kind = 'sync'"); after != before {
		t.Errorf("while it waited for its function the lane went from epoch %d to %d", before, after)
	}
	e.await("it is live", func() bool { return strings.HasPrefix(one[string](e, goStatus), "live") })
	stop()
	e.await("nobody has it again", func() bool { return one[string](e, goStatus) == unserved })
	e.exec("update goods set name = 'later' where id < 10")
	e.follow("plain:*", plain)

	// A definition that needs it not is anybody's, and a new one that does waits again. What
	// is dropped needs nobody's function.
	e.exec("select freshet.alter_sink('goods', transform => 'upper(record.name)')")
	e.follow("goods:*", "select 'goods:' || id, upper(name) from goods")
	e.exec("select freshet.alter_sink('goods', transform => 'go:test_label')")
	e.await("status says what is missing", func() bool { return one[string](e, goStatus) == unserved })
	stop = e.start()
	e.follow("goods:*", labels)
	stop()
	e.exec("select freshet.alter_sink('goods', key => 'wares:${id}')")
	e.await("entries under the old key go", func() bool { return len(e.redis.Keys(t.Context(), "goods:*").Val()) == 0 })
	e.exec("select freshet.drop_sink('goods')")
	e.await("the sink goes", func() bool {
		return one[int](e, "select count(*) from freshet.sink where name <> 'plain'") == 0
	})
	e.follow("plain:*", plain)
}

func TestDrainLeavesWhatItHasNoFunctionFor(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) select g, 'n' from generate_series(1, 30) g")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_unknown')")
	e.exec("select freshet.create_sink('plain', 'goods', key => 'plain:${id}', columns => '{id}')")
	e.drains(3, nil, "goods on default: no worker has the Go transform test_unknown")
	e.inStep("plain:*", "select 'plain:' || id, jsonb_build_object('id', id)::text from goods")
	// Where somebody has it, that is nobody's failure.
	e.exec("select freshet.alter_sink('goods', transform => 'go:test_label', columns => '{id,name}')")
	stop := e.start()
	e.settle()
	e.drains(0, nil)
	stop()
	e.exec("select freshet.alter_sink('goods', transform => 'go:test_unknown')")
	if _, stderr, status := e.freshet("verify", "goods"); status == 0 || !strings.Contains(stderr, "the Go transform test_unknown") {
		t.Errorf("verify says %q and exits with %d", stderr, status)
	}
}

// Nothing can stop a function that does not return, but it is told.
func TestGoTransformThatDoesNotReturnIsTold(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) values (1, 'a')")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_hangs', columns => '{id,name}')")
	_, release := hangs("hang")
	defer release()
	said := e.startTold()
	e.follow("goods:*", "select 'goods:' || id, name from goods")
	e.exec("update goods set name = 'hang'")
	e.awaitSaid(said, "a Go transform does not return", "test_hangs")
	release()
	e.awaitSaid(said, "all Go transforms return again")
	if n := timesSaid(said, "goods:1"); n > 0 {
		t.Errorf("%d lines of the log have the key of a row", n)
	}
	e.follow("goods:*", "select 'goods:' || id, name from goods")
}

// A worker that is told to stop does, whatever a function of Go does not.
func TestWorkerStopsWhileAGoTransformHangs(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) values (1, 'hang for good')")
	e.exec("select freshet.create_sink('goods', 'goods', transform => 'go:test_hangs', columns => '{id,name}')")
	reached, release := hangs("hang for good")
	defer release()
	w, err := worker.New(t.Context(), worker.Config{DatabaseURL: e.workerURL, Targets: map[string]string{"default": e.redisURL}, Logger: e.logger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-reached
	cancel()
	select {
	case err := <-ended:
		for _, text := range []string{"jobs did not end within 10s: ", "still in use", "by a Go transform that does not return"} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("it said %v; want %q", err, text)
			}
		}
	case <-time.After(patience):
		t.Fatal("it did not stop")
	}
}

func TestNamesOfGoTransforms(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	for _, name := range []string{"", "Label", "1st", "a-b", "a b", strings.Repeat("a", 49)} {
		e.refused("names no function of Go", "select freshet.create_sink('goods', 'goods', transform => $1)", "go:"+name)
		refused := func() (text string) {
			defer func() { text = fmt.Sprint(recover()) }()
			worker.RegisterTransform(name, func(context.Context, worker.Record) (worker.Value, error) { return worker.None(), nil })
			return ""
		}()
		if !strings.Contains(refused, "begin its name with a lower-case letter") {
			t.Errorf("a function called %q: %s", name, refused)
		}
	}
}

// Names of targets may have underscores wherever they like, names of River's queues may not.
func TestTargetNamesWithUnderscores(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, name) values (1, 'a')")
	const name = "eu__west_"
	e.exec("select freshet.create_sink('goods', 'goods', columns => '{id}', targets => array[$1])", name)
	e.startWith(func(c *worker.Config) { c.Targets = map[string]string{name: e.redisURL} })
	e.follow("goods:*", `select 'goods:' || id, jsonb_build_object('id', id)::text from goods`)
}
