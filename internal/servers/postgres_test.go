package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func startTestPostgres(t *testing.T, settings map[string]string) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), Options{Purpose: Test, Postgres: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ask runs one query with one answer.
func ask(t *testing.T, url, sql string, args ...any) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPostgresTakesSettingsOverDefaults(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, map[string]string{"max_prepared_transactions": "10", "fsync": "on", "search_path": "it's"})
	for name, want := range map[string]string{
		"max_prepared_transactions": "10", "fsync": "on", "max_connections": "200",
		"listen_addresses": "127.0.0.1", "search_path": "it's", "server_encoding": "UTF8",
	} {
		if got := ask(t, p.URL("postgres"), "select current_setting($1)", name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if p.Provider() == "" || p.PID() == 0 {
		t.Errorf("provider %q, pid %d", p.Provider(), p.PID())
	}
}

func TestDropDatabaseThrowsOutItsUsers(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, nil)
	url, err := p.CreateDatabase(t.Context(), `odd "name"`)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, url, "select current_database()::text"); got != `odd "name"` {
		t.Errorf("connected to %q", got)
	}
	user, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close(context.Background())
	for range 2 { // the second time there is none
		if err := p.DropDatabase(t.Context(), `odd "name"`); err != nil {
			t.Fatal(err)
		}
	}
	if err := user.Ping(t.Context()); err == nil {
		t.Error("still connected to a dropped database")
	}
}

func TestPostgresSurvivesCrashHaltAndRestart(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, nil)
	url := p.URL("postgres")
	ask(t, url, "with w as (select 1) select pg_logical_emit_message(true, 'a', 'b')::text from w")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "create table kept as select 'yes' as answer"); err != nil {
		t.Fatal(err)
	}
	// A backend that is busy does not notice that its postmaster is gone.
	busy := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select count(*) from generate_series(1, 10000000000)")
		busy <- err
	}()
	for ask(t, url, "select count(*)::text from pg_stat_activity where query like '%generate_series(1, 1%' and pid <> pg_backend_pid()") != "1" {
	}

	pid := p.PID()
	if err := p.Crash(); err != nil {
		t.Fatal(err)
	}
	if <-busy == nil {
		t.Error("a query outlived the crash")
	}
	if p.PID() != 0 {
		t.Error("a process after the crash")
	}
	gone(t, pid)
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, url, "select answer from kept"); got != "yes" {
		t.Errorf("after the crash: %q", got)
	}
	if err := p.Halt(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once from halted, once from running
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, url, "select answer from kept"); got != "yes" {
			t.Errorf("after a restart: %q", got)
		}
	}
}

func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, nil)
	if err := p.Halt(); err != nil {
		t.Fatal(err)
	}
	thief, err := net.Listen("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	restarted := make(chan error, 1)
	go func() { restarted <- p.Restart(context.Background()) }()
	for {
		log, err := os.ReadFile(p.dir.join("server.log"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log), "Address already in use") {
			break
		}
	}
	thief.Close()
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), Options{Purpose: Test, Postgres: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.HasPrefix(err.Error(), "start postgres: ") || !strings.Contains(err.Error(), `"no_such_setting"`) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := StartPostgres(ctx, Options{Purpose: Test}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStopMayComeFromManyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, nil)
	pid, dir := p.PID(), p.dir.path
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	gone(t, pid)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	for what, err := range map[string]error{"restart": p.Restart(t.Context()), "crash": p.Crash(), "halt": p.Halt()} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s after stop: %v", what, err)
		}
	}
}
