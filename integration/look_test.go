package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestStatusGetAndRecentChangesShowWhatHappens(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (7, 'Ada')")
	if stdout, _, status := e.freshet("status"); status != 0 || !strings.Contains(stdout, "no sinks") {
		t.Errorf("status without sinks: %d %q", status, stdout)
	}
	e.exec("select freshet.create_sink('users', 'users')")
	if state := one[string](e, "select state from freshet.status"); state != "unserved" {
		t.Errorf("state %q without a worker", state)
	}
	stop := e.start()
	e.settle()
	stdout, _, _ := e.freshet("status", "--json")
	var lanes []struct {
		Sink, State, Coverage string
		Pending               int
	}
	if err := json.Unmarshal([]byte(stdout), &lanes); err != nil || len(lanes) != 1 || lanes[0].State != "live" || lanes[0].Coverage != "full" || lanes[0].Pending != 0 {
		t.Errorf("status --json: %v %s", err, stdout)
	}

	e.exec("update users set name = 'Grace' where id = 7")
	e.settle()
	stdout, _, status := e.freshet("get", "users", "users:7")
	for _, want := range []string{`"name":"Grace"`, "they are the same", "expires: never", "last change: update", ", written"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("get: status %d, no %q in %s", status, want, stdout)
		}
	}
	stop()
	e.exec("delete from users where id = 7")
	stdout, _, status = e.freshet("get", "users", "users:7")
	for _, want := range []string{"row:    none", "they are different", "last change: delete", "not written yet"} {
		if status != 1 || !strings.Contains(stdout, want) {
			t.Errorf("get: status %d, no %q in %s", status, want, stdout)
		}
	}
	if _, stderr, status := e.freshet("get", "users", "user:7"); status != 2 || !strings.Contains(stderr, "is no key of sink users") {
		t.Errorf("get of a foreign key: %d %s", status, stderr)
	}
	if got := one[string](e, "select string_agg(operation || ' ' || key || ' ' || passed, ', ' order by id) from freshet.recent_changes"); got != `update {"id": 7} true, delete {"id": 7} false` {
		t.Errorf("recent_changes: %s", got)
	}
}

func TestTailShowsChangesAsTheyCome(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), "tail", "users")
	cmd.Env = append(os.Environ(), "FRESHET_DATABASE_URL="+e.workerURL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	// It shows what comes after it began: go on until it has begun.
	for n := 1; ; n++ {
		e.exec("insert into users (id, name) values ($1, 'x')", n)
		select {
		case line := <-lines:
			if !strings.Contains(line, "insert") || !strings.Contains(line, `{"id": `) {
				t.Errorf("tail says %q", line)
			}
			_ = cmd.Process.Signal(os.Interrupt)
			for range lines {
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("tail ended with %v", err)
			}
			return
		case <-ctx.Done():
			t.Fatal("tail shows nothing")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestTailSaysWhatItDoesNotShow(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	p := e.process("tail", "users")
	n := 0
	e.await("tail has begun", func() bool {
		n++
		e.exec("insert into users (id, name) values ($1, 'x')", n)
		return strings.Contains(p.stdout.String(), "insert")
	})
	e.await("tail has come to the last one", func() bool { return strings.Contains(p.stdout.String(), fmt.Sprintf(`{"id": %d}`, n)) })
	e.exec("insert into users (id, name) select 1000000 + g, 'x' from generate_series(1, 1000) g")
	e.await("a thousand are shown", func() bool { return strings.Contains(p.stdout.String(), `{"id": 1001000}`) })
	if said := p.stdout.String(); strings.Contains(said, "not shown") {
		t.Errorf("of a thousand it says\n%s", said)
	}
	e.exec("insert into users (id, name) select 2000000 + g, 'x' from generate_series(1, 3000) g")
	e.await("more are not", func() bool { return strings.Contains(p.stdout.String(), `{"id": 2003000}`) })
	if said := p.stdout.String(); !strings.Contains(said, "(at least 2000 changes since the last look are not shown") || strings.Contains(said, `{"id": 2000001}`) {
		t.Error("of three thousand it shows a thousand and nothing else")
	}
}
