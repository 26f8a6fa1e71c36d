package integration

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// freshet runs the command to its end and returns what it printed and its status.
func (e *env) freshet(args ...string) (stdout, stderr string, status int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(e.t), args...)
	cmd.Env = append(os.Environ(), "FRESHET_DATABASE_URL="+e.workerURL, "FRESHET_REDIS_URL="+e.redisURL)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// verifies runs verify and expects this last line and status.
func (e *env) verifies(want string, status int, args ...string) {
	e.t.Helper()
	stdout, stderr, got := e.freshet(append([]string{"verify"}, args...)...)
	if lastLine(stdout) != want || got != status {
		e.t.Fatalf("verify %v: status %d, %q; want status %d, %q\n%s", args, got, lastLine(stdout), status, want, stderr)
	}
}

func TestVerifyFindsWhatDiffersAndRepairMendsIt(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('users', 'users', filter => 'active')")
	e.exec("update users set active = false where id > 4990")
	e.start()
	e.settle()
	e.verifies("in step: 4990 entries, 0 stale, 0 missing, 0 orphaned", 0, "users")

	e.redis.Del(ctx, "users:1", "users:2500")
	e.redis.Set(ctx, "users:2", `{"id": 2}`, 0)
	e.redis.Del(ctx, "users:3")
	e.redis.HSet(ctx, "users:3", "not", "a string")
	e.redis.Set(ctx, "users:4995", `{"id": 4995}`, 0) // filtered out
	e.redis.Set(ctx, "users:99999", `{}`, 0)          // no such row
	e.redis.Set(ctx, "users:007", `no key of ours`, 0)
	e.redis.Set(ctx, "users:x", `no key of ours`, 0)
	// A key of another type has no value that could be right: it counts as missing.
	e.verifies("out of step: 4990 entries, 1 stale, 3 missing, 2 orphaned", 1, "users")
	e.verifies("out of step: 4990 entries, 1 stale, 3 missing, 2 orphaned", 1, "users", "--repair")
	e.settle()
	e.verifies("in step: 4990 entries, 0 stale, 0 missing, 0 orphaned", 0, "users")
	for _, foreign := range []string{"users:007", "users:x"} {
		if got := e.entry(foreign); got != "no key of ours" {
			t.Errorf("%s: %q: somebody else's key was changed", foreign, got)
		}
	}
}

func TestVerifyRaisesNoFalseAlarmOnLiveData(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 20000) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			// A hot row, a spread of others, deletes and key changes.
			for _, sql := range []string{
				"update users set price = $1 where id = 1",
				"update users set price = $1 where id % 997 = $1 % 997",
				"delete from users where id = 5000 + $1 % 5000",
				"update users set id = id + 1000000 where id = 15000 + $1 % 5000",
			} {
				if _, err := e.db.Exec(t.Context(), sql, n); err != nil && ctx.Err() == nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	for range 3 {
		stdout, stderr, status := e.freshet("verify", "users")
		if line := lastLine(stdout); status != 0 || !strings.HasSuffix(line, " 0 stale, 0 missing, 0 orphaned") {
			t.Errorf("verify while writing: status %d, %q %s", status, line, stderr)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestVerifySampleLooksAtAFew(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 20000) g")
	e.exec("analyze users")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.verifies("in step: 100 entries, 0 stale, 0 missing, 0 orphaned", 0, "users", "--sample", "100")
}

func TestVerifyOfALazySinkDoesNotMissWhatWasNeverTouched(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.start()
	e.exec("update users set name = 'touched' where id <= 10")
	e.settle()
	if n := len(e.redis.Keys(t.Context(), "users:*").Val()); n != 10 {
		t.Errorf("%d entries; want the 10 that were touched", n)
	}
	e.verifies("in step: 100 entries, 0 stale, missing not counted, 0 orphaned", 0, "users")
}

func TestVerifyOfSeveralTargetsWantsAllOfThem(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user ' || g from generate_series(1, 100) g")
	e.targets = map[string]string{"eu": serverstest.Redis(t)}
	eu := newRedis(t, e.targets["eu"])
	e.exec("select freshet.create_sink('users', 'users', targets => '{default,eu}')")
	e.start()
	if err := worker.Settle(t.Context(), e.db, []string{"default", "eu"}); err != nil {
		t.Fatal(err)
	}
	// Differences are found on the first target, if anybody looks there.
	e.redis.Del(t.Context(), "users:1", "users:2")
	eu.Del(t.Context(), "users:3")
	runs := func(status int, want string, variables map[string]string, args ...string) {
		t.Helper()
		environment := map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL}
		maps.Copy(environment, variables)
		p := startProcess(t, "verify", environment, args...)
		if got := p.wait(patience); got != status || !strings.Contains(p.stdout.String()+p.stderr.String(), want) {
			t.Errorf("%v: status %d, want %d and %q:\n%s%s", args, got, status, want, p.stdout.String(), p.stderr.String())
		}
	}
	both := map[string]string{"FRESHET_REDIS_URL_EU": e.targets["eu"]}
	runs(1, "out of step: 200 entries, 0 stale, 3 missing, 0 orphaned", both, "verify", "users")
	runs(1, "out of step: 100 entries, 0 stale, 1 missing, 0 orphaned", both, "verify", "users", "--target", "eu")
	runs(1, "out of step: 100 entries, 0 stale, 2 missing, 0 orphaned", nil, "verify", "--target", "default", "users")
	runs(2, "target eu has no URL: set FRESHET_REDIS_URL_EU", nil, "verify", "users")
	runs(2, "target eu has no URL: set FRESHET_REDIS_URL_EU", nil, "get", "users", "users:1")
	runs(2, "FRESHET_TARGETS leaves out target eu", map[string]string{"FRESHET_REDIS_URL_EU": e.targets["eu"], "FRESHET_TARGETS": "default"}, "verify", "users")
	runs(2, `does not write to target "us" but to default, eu`, both, "verify", "users", "--target", "us")
}

func TestVerifyWithoutAWorkerSaysSo(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	stop()
	e.exec("insert into users (id, name) values (1, 'unseen')")
	stdout, stderr, status := e.freshet("verify", "users", "--timeout", "1s")
	if status != 2 || !strings.Contains(stderr, "is a worker running?") {
		t.Errorf("status %d, %q %q", status, stdout, stderr)
	}
	_, stderr, status = e.freshet("verify", "nobody")
	if status != 2 || !strings.Contains(stderr, `there is no sink "nobody"`) {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestDemoEndsInStep(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), "demo", "--rows", "5000", "--seconds", "2")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	if line := lastLine(string(out)); !strings.HasPrefix(line, "in step: ") || !strings.HasSuffix(line, " 0 stale, 0 missing, 0 orphaned") {
		t.Errorf("last line %q after %v", line, time.Since(began))
	}
}

// verified runs verify, which must find nothing.
func (e *env) verified(sink string) {
	e.t.Helper()
	stdout, stderr, status := e.freshet("verify", sink)
	if status != 0 || !strings.HasPrefix(lastLine(stdout), "in step: ") {
		e.t.Fatalf("verify %s: status %d, %q\n%s", sink, status, lastLine(stdout), stderr)
	}
}
