package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// timelines are two Postgres servers of which the second has a past of the first: what was
// committed on the first since then is lost for it.
type timelines struct {
	*env
	first, second *servers.Postgres
	// now is e on the second server.
	now *env
}

func newTimelines(t *testing.T, settings map[string]string) *timelines {
	t.Helper()
	t.Parallel()
	first := serverstest.PostgresWith(t, settings)
	databaseURL, err := first.CreateDatabase(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	tl := &timelines{env: newEnvOn(t, databaseURL, serverstest.Redis(t)), first: first}
	tl.exec(usersTable)
	tl.exec("insert into users (id, name) select g, 'user' from generate_series(1, 500) g")
	tl.exec("select freshet.create_sink('users', 'users')")
	return tl
}

// moveTo makes the environment on the second server, whose database is there already.
func (tl *timelines) moveTo(second *servers.Postgres) {
	tl.t.Helper()
	there := func(databaseURL string) string {
		u, err := url.Parse(databaseURL)
		if err != nil {
			tl.t.Fatal(err)
		}
		u.Host = second.Addr()
		return u.String()
	}
	now := *tl.env
	now.superURL, now.databaseURL, now.workerURL = there(tl.superURL), there(tl.databaseURL), there(tl.workerURL)
	now.super, now.db = newPool(tl.t, now.superURL), newPool(tl.t, now.databaseURL)
	tl.second, tl.now = second, &now
}

// program runs one of the programs that belong to the server.
func (tl *timelines) program(name string, args ...string) {
	tl.t.Helper()
	dir := one[string](tl.admin(), "select setting from pg_config where name = 'BINDIR'")
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			tl.t.Fatalf("%s: install the client programs that belong to the server", name)
		}
	}
	if out, err := exec.CommandContext(tl.t.Context(), path, args...).CombinedOutput(); err != nil {
		tl.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// forgotten writes on the first server what the second one does not have: entries that are
// stale and orphaned once the second one counts.
func (tl *timelines) forgotten() {
	tl.t.Helper()
	tl.exec("update users set name = 'never was' where id <= 100")
	tl.exec("insert into users (id, name) select g, 'never was' from generate_series(1001, 1100) g")
	tl.exec("delete from users where id > 490 and id <= 500")
}

// A database that was dumped and restored elsewhere has other transaction ids altogether.
func TestDatabaseRestoredFromADumpIsWarmedAgain(t *testing.T) {
	tl := newTimelines(t, nil)
	stop := tl.start()
	tl.settle()
	restore := tl.dump()
	tl.forgotten()
	tl.settle()
	restore()
	tl.rightOneWins(stop)
}

// dump returns what restores a dump of the database as it is now, on another server.
func (tl *timelines) dump() (restore func()) {
	t := tl.t
	t.Helper()
	dump := filepath.Join(t.TempDir(), "dump")
	tl.program("pg_dump", "-Fc", "-f", dump, tl.superURL)
	return func() { t.Helper(); tl.restore(dump) }
}

func (tl *timelines) restore(dump string) {
	t := tl.t
	t.Helper()
	second := serverstest.PostgresWith(t, nil)
	if _, err := second.CreateDatabase(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"freshet_admin nologin", "freshet_worker nologin", "app_owner login in role freshet_admin", "app_worker login in role freshet_worker"} {
		tl.program("psql", "-qc", "create role "+role, second.URL("app"))
	}
	tl.program("pg_restore", "-d", second.URL("app"), dump)
	tl.moveTo(second)
}

// As the README has it: the application's tables alone, all of them or one.
func TestDumpIsRestoredWithoutFreshet(t *testing.T) {
	tl := newTimelines(t, nil)
	for n, arguments := range [][]string{{"--exclude-schema=freshet"}, {"-t", "users"}} {
		other, err := tl.first.CreateDatabase(t.Context(), fmt.Sprintf("other%d", n))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		dump, list, rest := filepath.Join(dir, "dump"), filepath.Join(dir, "list"), filepath.Join(dir, "rest")
		tl.program("pg_dump", append(arguments, "-Fc", "-f", dump, tl.superURL)...)
		tl.program("pg_restore", "-l", "-f", list, dump)
		all, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		kept, triggers := []byte{}, regexp.MustCompile(` TRIGGER .* freshet_`)
		for line := range bytes.Lines(all) {
			if !triggers.Match(line) {
				kept = append(kept, line...)
			}
		}
		if len(kept) == len(all) {
			t.Errorf("%q: no trigger is in the list:\n%s", arguments, all)
		}
		if err := os.WriteFile(rest, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		tl.program("pg_restore", "-1", "-L", rest, "-d", other, dump)
		restored := *tl.env
		restored.db = newPool(t, other)
		restored.exec("update users set name = 'changed'")
		if n := one[int](&restored, "select count(*) from users where name = 'changed'"); n != 500 {
			t.Errorf("%q: %d rows", arguments, n)
		}
	}
}

// A copy of the database whose workers reach the Redis of the original: each finds what the
// other has written, and neither can know which of them is meant to.
func TestTwoThatLiveLeaveTheKeyToEachOther(t *testing.T) {
	tl := newTimelines(t, nil)
	tl.start()
	tl.settle()
	tl.dump()()
	stopCopy := tl.now.start()
	// They pause for a second, then two, four, and so on.
	times := func() int { return one[int](tl.env, "select max(rivalries) from freshet.lease") }
	var had int
	tl.await("it took the key again and again", func() bool { had = times(); return had >= 3 })
	began := time.Now()
	tl.await("it took the key twice more", func() bool { return times() >= had+2 })
	if took, least := time.Since(began), time.Second<<(had-2); took < least*9/10 {
		t.Errorf("the key was taken %d times, and twice more within %v, want %v at least", had, took, least)
	}
	const said = "select coalesce(max(last_error), '') from freshet.status where state = 'blocked'"
	for _, side := range []*env{tl.env, tl.now} {
		side.await("it says what happens", func() bool { return strings.Contains(one[string](side, said), "a copy of this database") })
	}
	// With one of them gone the other takes the key as soon as its pause is over, and says so.
	stopCopy()
	tl.exec("update users set name = 'ours' where id <= 20")
	tl.awaitInStep("users:*", usersPromise)
	tl.settle()
	tl.inStep("users:*", usersPromise)
	if n := one[int](tl.env, "select count(*) from freshet.status where state = 'blocked'"); n != 0 {
		t.Error("still blocked")
	}
}

// In a copy of the database, such as staging made from a dump, sinks are dropped that the original
// goes on with.
func TestSinkThatIsDroppedInACopyKeepsTheOriginalsEntries(t *testing.T) {
	tl := newTimelines(t, nil)
	ctx := t.Context()
	tl.start()
	tl.settle()
	restore := tl.dump()
	restore()
	tl.now.exec("select freshet.drop_sink('users')")
	stop := tl.now.start()
	tl.now.await("the copy has no sink", func() bool { return one[int](tl.now.admin(), "select count(*) from freshet.sink") == 0 })
	tl.inStep("users:*", usersPromise)
	// Whoever works for the copy next sees the original's sink, and has not known it.
	stop()
	looks := func() (n int) {
		_, rest, _ := strings.Cut(tl.redis.Info(ctx, "commandstats").Val(), "cmdstat_hgetall:calls=")
		if _, err := fmt.Sscan(rest, &n); err != nil && rest != "" {
			// The number ends with a comma.
			t.Fatal(err)
		}
		return n
	}
	leases := func() int { return one[int](tl.now.admin(), "select last_value from freshet.lease_id_seq") }
	before, had := looks(), leases()
	tl.now.start()
	tl.await("it was looked at", func() bool { return looks() > before+6 })
	tl.exec("update users set name = 'changed' where id <= 20")
	tl.settle()
	tl.inStep("users:*", usersPromise)
	// Asked whose the sink is, the original's lane takes its key again.
	if n := tl.rewarms(); n > 1 {
		t.Errorf("%d re-warms of the original", n)
	}
	if n := leases(); n != had {
		t.Error("the copy removes it again")
	}
}

// rightOneWins has the second server's worker come while the first one's still works, as
// after a failover that not everybody has heard of, and the first one's end.
func (tl *timelines) rightOneWins(stopFirst func()) {
	tl.t.Helper()
	tl.now.exec("update users set name = 'now' where id between 201 and 210")
	tl.now.start()
	// They take the lane from each other; neither is refused for good.
	for range 3 {
		tl.now.exec("update users set name = name || '.' where id = 300")
		want := tl.now.entryOf(300)
		tl.await("the second one writes", func() bool { return sameJSON(tl.entry("users:300"), want) })
	}
	stopFirst()
	tl.now.awaitInStep("users:*", usersPromise)
	tl.now.settle()
	tl.now.inStep("users:*", usersPromise)
	tl.now.exec("update users set name = 'later' where id <= 50")
	tl.now.settle()
	tl.now.inStep("users:*", usersPromise)
}

func (e *env) entryOf(id int) string {
	e.t.Helper()
	return one[string](e, "select to_jsonb(u)::text from users u where id = $1", id)
}

// A standby that had not received the last commits is promoted: the same system, another
// timeline, and transaction ids that mean something else on either.
func TestFailoverToAStandbyThatLagsIsWarmedAgain(t *testing.T) {
	tl := newTimelines(t, nil)
	stop := tl.start()
	tl.settle()
	second := serverstest.PostgresWith(t, nil)
	data := dataDirectory(t, second)
	if err := second.Halt(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	first, err := url.Parse(tl.first.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	tl.program("pg_basebackup", "-c", "fast", "-D", data, "-d", first.String())
	// It is told of no primary, so it has what it has.
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sameOwner(t, data, dataDirectory(t, tl.first))
	tl.forgotten()
	tl.settle()

	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl.moveTo(second)
	if !one[bool](tl.now.admin(), "select pg_promote()") {
		t.Fatal("the standby was not promoted")
	}
	tl.rightOneWins(stop)
}

func dataDirectory(t *testing.T, server *servers.Postgres) string {
	t.Helper()
	var dir string
	if err := newPool(t, server.URL("postgres")).QueryRow(t.Context(), "show data_directory").Scan(&dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sameOwner gives what is below dir to whom a file belongs: Postgres does not run as root,
// and a backup that root takes is root's.
func sameOwner(t *testing.T, dir, like string) {
	t.Helper()
	info, err := os.Stat(like)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err == nil {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Workers of a former server write a backfill under control keys of their own: what refuses
// them is that a lane has said whose the keys are. The lane they said it to looks at
// everything again.
func TestKeysThatAnotherServerWroteAreWarmedAgain(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	owner := one[string](e, "select 'freshet:' || i.id || ':' || s.id || ':owner' from freshet.installation i, freshet.sink s")
	ours := e.redis.Get(t.Context(), owner).Val()
	if !strings.HasPrefix(ours, "users ") {
		t.Fatalf("the owner key says %q", ours)
	}
	e.redis.Set(t.Context(), owner, "users 7.00000002.5", 0)
	e.redis.Set(t.Context(), "users:5", `{"id": 5, "name": "never was"}`, 0)
	e.redis.Set(t.Context(), "users:1000", `{"id": 1000, "name": "never was"}`, 0)
	e.await("the lane says that the keys are its own", func() bool { return e.redis.Get(t.Context(), owner).Val() == ours })
	e.settle()
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int](e, "select count(*) from freshet.backfills where reason = 'rewarm'"); n != 1 {
		t.Errorf("%d re-warms", n)
	}
}
