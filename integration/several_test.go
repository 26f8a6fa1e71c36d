package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const devicesTable = `create table devices (id int primary key, serial text unique, site int not null, v int not null default 0, unique (site, serial))`

// sinksOnDevices are three keys over one table, with the promise of each.
var sinksOnDevices = []struct{ key, promise string }{
	{"${id}", "select '%[1]s:' || id, jsonb_build_object('id', id, 'v', v)::text from devices"},
	{"${serial}", "select '%[1]s:' || serial, jsonb_build_object('id', id, 'v', v)::text from devices where serial is not null"},
	{"${site}:${serial}", "select '%[1]s:' || site || ':' || serial, jsonb_build_object('id', id, 'v', v)::text from devices where serial is not null"},
}

func (e *env) deviceSink(name string, kind int) {
	e.t.Helper()
	e.exec("select freshet.create_sink($1, 'devices', key => $2, columns => '{id,v}')", name, name+":"+sinksOnDevices[kind].key)
}

func TestSinksOfOneSourceShareItsCapture(t *testing.T) {
	e := newEnv(t)
	e.exec(devicesTable)
	for kind := range sinksOnDevices {
		e.deviceSink(fmt.Sprintf("devices_%d", kind), kind)
		e.deviceSink(fmt.Sprintf("twin_%d", kind), kind)
	}
	for _, c := range []struct {
		sql     string
		changes int
	}{
		{"insert into devices select g, 's' || g, g % 3 from generate_series(1, 100) g", 100},
		{"update devices set v = v + 1", 100},
		{"update devices set serial = 'moved' || id where id <= 10", 20},
		{"update devices set serial = serial || 'x', site = site + 1, id = id + 1000 where id <= 10", 20},
		{"delete from devices where id > 1000", 10},
		{"truncate devices", 1},
	} {
		before := e.changes()
		e.exec(c.sql)
		if n := e.changes() - before; n != c.changes {
			t.Errorf("%s: %d changes were captured for six sinks; want %d", c.sql, n, c.changes)
		}
	}
	if n := one[int](e, "select count(*) from pg_trigger where tgrelid = 'devices'::regclass and not tgisinternal"); n != 4 {
		t.Errorf("%d triggers on the table; want one for each kind of statement", n)
	}
}

// Workers read a change table before its source, and writers come to it from there.
func TestSinkThatComesOrGoesIsInNoDeadlockWithReaders(t *testing.T) {
	e := newEnv(t)
	e.exec(devicesTable)
	e.deviceSink("first", 0)
	for _, c := range []struct{ first, then, meanwhile string }{
		{"table freshet.changes_1_1", "table freshet.changes_1", "select freshet.create_sink('second', 'devices', key => 'second:${serial}')"},
		{"table freshet.changes_1", "table devices", "select freshet.drop_sink('first'), freshet.drop_sink('second')"},
	} {
		reader := e.begin()
		e.in(reader, c.first)
		done := make(chan error, 1)
		go func() {
			_, err := e.db.Exec(context.Background(), c.meanwhile)
			done <- err
		}()
		e.await("the sink waits for the change table", func() bool {
			return one[bool](e, `select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock'
				and relation in ('freshet.changes_1'::regclass, 'freshet.changes_1_1'::regclass))`)
		})
		e.in(reader, c.then)
		e.commit(reader)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.meanwhile, err)
		}
	}
}

// Sinks come and go, the first and the last of the table included, while writers write:
// no writer fails, and no entry of what remains is missed.
func TestSinksComeAndGoWhileTheTableIsWritten(t *testing.T) {
	e := newEnv(t)
	e.exec(devicesTable)
	e.exec("insert into devices select g, 's' || g, g % 3 from generate_series(1, 2000) g")
	e.start()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	var stopped atomic.Bool
	var written atomic.Int64
	var writers sync.WaitGroup
	stop := func() { stopped.Store(true); writers.Wait() }
	defer stop()
	for w := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for !stopped.Load() {
				if err := e.writeDevices(r); err != nil {
					t.Errorf("a writer: %v", err)
					return
				}
				written.Add(1)
			}
		})
	}

	kept := make(map[string]int)
	keeps := func(name string, kind int) {
		e.deviceSink(name, kind)
		kept[name] = kind
	}
	for round := range 4 {
		// The table loses its capture between the rounds, and gets another.
		for kind := range sinksOnDevices {
			e.deviceSink(fmt.Sprintf("passing_%d_%d", round, kind), kind)
		}
		if round == 3 {
			keeps("kept", 1)
		}
		least := written.Load() + 20
		e.await("the writers have gone on", func() bool { return stopped.Load() || t.Failed() || written.Load() > least })
		for kind := range sinksOnDevices {
			e.exec("select freshet.drop_sink($1)", fmt.Sprintf("passing_%d_%d", round, kind))
		}
	}
	keeps("kept_too", 0)
	keeps("kept_last", 2)
	least := written.Load() + 20
	e.await("the writers have gone on", func() bool { return t.Failed() || written.Load() > least })
	stop()
	t.Logf("%d transactions", written.Load())

	e.settle()
	for name, kind := range kept {
		e.inStep(name+":*", fmt.Sprintf(sinksOnDevices[kind].promise, name))
	}
	if keys := e.redis.Keys(t.Context(), "passing*").Val(); len(keys) > 0 {
		t.Errorf("%d entries of dropped sinks are left, such as %s", len(keys), keys[0])
	}
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
}

// writeDevices is one transaction of some statements, as several writers run it at a time.
func (e *env) writeDevices(r *rand.Rand) error {
	ctx := context.Background()
	tx, err := e.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	for range 1 + r.IntN(4) {
		id := r.IntN(2000)
		var sql string
		switch r.IntN(6) {
		case 0:
			sql = fmt.Sprintf("insert into devices values (%d, 's%d', %d) on conflict do nothing", id, id, id%3)
		case 1:
			sql = fmt.Sprintf("delete from devices where id = %d", id)
		case 2:
			sql = fmt.Sprintf("update devices set serial = case when serial is null then 's%[1]d' end where id = %[1]d", id)
		case 3:
			sql = fmt.Sprintf("update devices set site = site + 1 where id between %d and %d", id, id+5)
		default:
			sql = fmt.Sprintf("update devices set v = v + 1 where id between %d and %d", id, id+20)
		}
		_, err := tx.Exec(ctx, sql)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "40P01" && !strings.Contains(pgErr.Detail, "Lock on relation") {
			return nil // over rows, with another writer
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if r.IntN(5) == 0 {
		return nil
	}
	return tx.Commit(ctx)
}
