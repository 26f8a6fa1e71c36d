package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/freshet/freshet/internal/fence"
)

// laneFence is the fence in the control key of the first lane.
func (e *env) laneFence() fence.Fence {
	e.t.Helper()
	f, err := fence.Parse(e.redis.HGet(e.t.Context(), one[string](e.admin(), "select 'freshet:' || i.id || ':1:0' from freshet.installation i"), "fence").Val())
	if err != nil {
		e.t.Fatal(err)
	}
	return f
}

func (tl *timelines) restart() {
	tl.t.Helper()
	if err := tl.first.Restart(tl.t.Context()); err != nil {
		tl.t.Fatal(err)
	}
	// Connections to the server that was are no use.
	tl.db.Reset()
	tl.super.Reset()
	tl.await("Postgres is back", func() bool { return tl.db.Ping(tl.t.Context()) == nil })
}

// keepCold copies the data directory of the server while it is stopped, and returns what
// puts the copy in its place: the same system, timeline and unlogged tables.
func (tl *timelines) keepCold() (back func()) {
	tl.t.Helper()
	data := dataDirectory(tl.t, tl.first)
	if err := tl.first.Halt(); err != nil {
		tl.t.Fatal(err)
	}
	kept := data + ".kept"
	if err := os.CopyFS(kept, os.DirFS(data)); err != nil {
		tl.t.Fatal(err)
	}
	tl.t.Cleanup(func() { os.RemoveAll(kept) })
	tl.restart()
	return func() {
		tl.t.Helper()
		if err := tl.first.Halt(); err != nil {
			tl.t.Fatal(err)
		}
		tl.putBack(data, kept)
	}
}

// keepHot takes a base backup, and returns what puts it in the data directory's place after a
// crash. Nothing tells the server that it is a backup that it recovers from.
func (tl *timelines) keepHot() (back func()) {
	tl.t.Helper()
	data, kept := dataDirectory(tl.t, tl.first), filepath.Join(tl.t.TempDir(), "kept")
	tl.program("pg_basebackup", "-c", "fast", "-D", kept, "-d", tl.first.URL("postgres"))
	return func() {
		tl.t.Helper()
		if err := tl.first.Crash(); err != nil {
			tl.t.Fatal(err)
		}
		tl.putBack(data, kept)
	}
}

func (tl *timelines) putBack(data, kept string) {
	tl.t.Helper()
	gone := data + ".gone"
	if err := os.Rename(data, gone); err != nil {
		tl.t.Fatal(err)
	}
	tl.t.Cleanup(func() { os.RemoveAll(gone) })
	if err := os.CopyFS(data, os.DirFS(kept)); err != nil {
		tl.t.Fatal(err)
	}
	sameOwner(tl.t, data, gone)
	tl.restart()
}

// A backup that is put back in place is the same server on the same timeline. Nothing is
// written afterwards: the lane that sleeps notices by itself.
func TestBackupRestoredInPlaceIsWarmedAgain(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(*timelines) func(){
		"hot": (*timelines).keepHot, "cold": (*timelines).keepCold,
	} {
		t.Run(name, func(t *testing.T) {
			tl := newTimelines(t, nil)
			tl.start()
			tl.settle()
			back := keep(tl)
			tl.forgotten()
			tl.settle()
			back()
			tl.awaitInStep("users:*", usersPromise)
			tl.exec("update users set name = 'now' where id between 150 and 250")
			tl.settle()
			tl.inStep("users:*", usersPromise)
			if n := one[int](tl.env, "select count(*) from freshet.backfills where reason = 'rewarm'"); n < 1 || n > 2 {
				t.Errorf("%d re-warms", n)
			}
		})
	}
}

// awaitPosition writes WAL until the server is as far as it was.
func (tl *timelines) awaitPosition(reached string) {
	tl.t.Helper()
	for !one[bool](tl.admin(), "select pg_current_wal_insert_lsn() > $1::pg_lsn", reached) {
		one[string](tl.admin(), "select pg_logical_emit_message(false, 'test', repeat('x', 100000))::text")
	}
}

// Nor has it the definition that the target knows, where the sink was altered since.
func TestBackupOfBeforeAnAlterIsNoticedByItsDefinition(t *testing.T) {
	tl := newTimelines(t, nil)
	stop := tl.start()
	tl.settle()
	stop()
	back := tl.keepCold()
	tl.exec("select freshet.alter_sink('users', columns => '{id}')")
	stop = tl.start()
	tl.await("entries are altered", func() bool { return sameJSON(tl.entry("users:450"), `{"id": 450}`) })
	tl.settle()
	stop()
	reached := one[string](tl.admin(), "select pg_current_wal_insert_lsn()::text")
	back()
	tl.awaitPosition(reached)
	// As the lease was handed over on the server that was lost, so it is here.
	for one[int64](tl.admin(), "update freshet.lease set epoch = epoch + 1 where kind = 'sync' returning epoch") <= tl.laneFence().Epoch {
	}
	tl.start()
	tl.awaitInStep("users:*", usersPromise)
	tl.exec("update users set name = 'now' where id between 150 and 250")
	tl.settle()
	tl.inStep("users:*", usersPromise)
}

// By the time a lane looks, the server may be further in its WAL than it was when it was
// restored; it has not given out the epochs that the target knows.
func TestBackupRestoredInPlaceIsNoticedByItsEpochs(t *testing.T) {
	tl := newTimelines(t, nil)
	stop := tl.start()
	tl.settle()
	stop()
	back := tl.keepCold()
	for range 3 {
		before := tl.laneFence().Epoch
		stop = tl.start()
		tl.await("the lane is taken", func() bool { return tl.laneFence().Epoch > before })
		tl.exec("update users set name = name || ', never was' where id <= 100")
		tl.exec("delete from users where id between 400 and 500")
		tl.settle()
		stop()
	}
	reached := one[string](tl.admin(), "select pg_current_wal_insert_lsn()::text")
	back()
	tl.awaitPosition(reached)
	tl.start()
	tl.awaitInStep("users:*", usersPromise)
	tl.exec("update users set name = 'now' where id between 150 and 250")
	tl.settle()
	tl.inStep("users:*", usersPromise)
}

// Nor its transactions, where the lane was last written under the epoch that is in the backup.
func TestBackupRestoredInPlaceIsNoticedByItsTransactions(t *testing.T) {
	tl := newTimelines(t, nil)
	stop := tl.start()
	tl.settle()
	back := tl.keepCold()
	was := tl.laneFence()
	for range 1000 {
		tl.exec("update users set name = name || ', never was' where id = 1")
	}
	tl.exec("update users set name = 'never was' where id <= 100; delete from users where id between 400 and 500")
	tl.settle()
	stop()
	if is := tl.laneFence(); is != was {
		t.Fatalf("the fence was %v and is %v", was, is)
	}
	reached := one[string](tl.admin(), "select pg_current_wal_insert_lsn()::text")
	back()
	tl.awaitPosition(reached)
	tl.start()
	tl.awaitInStep("users:*", usersPromise)
	tl.exec("update users set name = 'now' where id between 150 and 250")
	tl.settle()
	tl.inStep("users:*", usersPromise)
}

// That a lease was handed over is on disk before a control key says so, also where commits
// are not waited for: a crash is no way back.
func TestCrashIsNotTakenForARestoredBackup(t *testing.T) {
	tl := newTimelines(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"})
	stop := tl.start()
	tl.settle()
	for range 3 {
		before := tl.laneFence().Epoch
		stop()
		stop = tl.start()
		tl.await("the next one has the lane", func() bool { return tl.laneFence().Epoch > before })
		if err := tl.first.Crash(); err != nil {
			t.Fatal(err)
		}
		tl.restart()
		tl.exec("update users set name = name || '.' where id <= 50")
		tl.settle()
		tl.inStep("users:*", usersPromise)
	}
	if n := one[int](tl.env, "select count(*) from freshet.backfills where reason = 'rewarm'"); n != 0 {
		t.Errorf("%d re-warms", n)
	}
}
