package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// drains runs drain, which has to exit with this status and say these texts.
func (e *env) drains(status int, args []string, says ...string) {
	e.t.Helper()
	_, stderr, got := e.freshet(append([]string{"drain"}, args...)...)
	if got != status {
		e.t.Errorf("drain: exit status %d, want %d\n%s", got, status, stderr)
	}
	for _, text := range says {
		if !strings.Contains(stderr, text) {
			e.t.Errorf("drain does not say %q:\n%s", text, stderr)
		}
	}
}

func TestDrainNamesWhatItLeavesOut(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.drains(0, nil)

	// A pause is what somebody wants.
	e.exec("select freshet.create_sink('idle', 'users', key => 'idle:${id}', columns => '{id}')")
	e.exec("select freshet.pause_sink('idle')")
	e.drains(0, nil, "sink=idle", "it is paused")
	e.exec("select freshet.resume_sink('idle')")
	e.exec("select freshet.pause_backfill(max(id)) from freshet.backfills")
	e.drains(0, nil, "sink=idle", "is paused")
	e.exec("select freshet.resume_backfill(max(id)) from freshet.backfills")

	// The rest is done beside what cannot be.
	e.redis.Set(t.Context(), "others:5", "theirs", 0)
	e.exec("select freshet.create_sink('others', 'users', key => 'others:${id}', columns => '{id}')")
	e.exec("select freshet.create_sink('misfit', 'users', key => 'misfit:${id}', transform => 'record.naem')")
	e.exec("select freshet.create_sink('broken', 'users', key => 'broken:${id}', columns => '{id}', filter => 'active')")
	e.exec("update users set name = 'changed'; alter table users drop column active")
	e.drains(3, nil, "others on default: 1 keys of the form others:${id} are there already", "misfit on default: ", `"naem"`)
	e.inStep("users:*", usersPromise)
	e.inStep("idle:*", "select 'idle:' || id, jsonb_build_object('id', id)::text from users")
	e.drains(3, nil, "others on default: ", "misfit on default: ", "broken on default: ", "active")

	e.redis.Del(t.Context(), "others:5")
	e.exec("select freshet.alter_sink('misfit', transform => 'record.name'); select freshet.drop_sink('broken')")
	e.drains(0, nil)
	e.inStep("misfit:*", "select 'misfit:' || id, name from users")
	e.inStep("others:*", "select 'others:' || id, jsonb_build_object('id', id)::text from users")
}

// What does not pass is tried for as long as it may be.
func TestDrainEndsAtItsTimeoutAndSaysWhatIsBehind(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.URL())
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.drains(0, []string{"--timeout", "1m"})
	if err := e.redis.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("insert into users (id, name) values (1, 'a')")
	began := time.Now()
	e.drains(4, []string{"--timeout", "4s"}, "the timeout of 4s is over", "still behind: users on default: ", "NOREPLICAS")
	if took := time.Since(began); took < 4*time.Second || took > patience/2 {
		t.Errorf("it took %s", took)
	}
	e.drains(2, []string{"--timeout", "-1s"}, "--timeout is -1s")
}
