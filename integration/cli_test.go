package integration

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// soon is how long a command may take to say that it cannot work.
const soon = 5 * time.Second

// secret stands for a password in the URLs of these tests. It must never be printed.
const secret = "s3cr3tword"

// deadAddr is an address at which nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// complains runs a command that must fail soon, with one line on stderr that has all of
// these texts in it, and nothing on stdout.
func complains(t *testing.T, environment map[string]string, args []string, texts ...string) {
	t.Helper()
	p := startProcess(t, "freshet "+strings.Join(args, " "), environment, args...)
	began := time.Now()
	status := p.wait(3 * soon)
	if took := time.Since(began); took > soon {
		t.Errorf("it took %s to fail", took)
	}
	said := p.stderr.String()
	t.Logf("status %d: %s", status, strings.TrimSpace(said))
	if status == 0 {
		t.Error("exit status 0")
	}
	if strings.Count(strings.TrimSpace(said), "\n") != 0 || strings.TrimSpace(said) == "" {
		t.Errorf("it said not one line but %q", said)
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("it does not say %q", text)
		}
	}
	for _, bad := range []string{secret, "goroutine", "panic", ".go:"} {
		if strings.Contains(said+p.stdout.String(), bad) {
			t.Errorf("it says %q", bad)
		}
	}
	if out := p.stdout.String(); out != "" {
		t.Errorf("stdout has %q", out)
	}
}

// forWorkers runs a case for every command that connects to both servers.
func forWorkers(t *testing.T, run func(t *testing.T, args []string)) {
	t.Helper()
	for _, command := range []string{"worker", "drain"} {
		t.Run(command, func(t *testing.T) { run(t, []string{command}) })
	}
}

func TestUnreachableRedisIsOneClearLine(t *testing.T) {
	e := newEnv(t)
	dead := deadAddr(t)
	forWorkers(t, func(t *testing.T, args []string) {
		complains(t, map[string]string{
			"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": "redis://:" + secret + "@" + dead + "/0",
		}, args, dead, "refused")
	})
}

func TestUnreachablePostgresIsOneClearLine(t *testing.T) {
	t.Parallel()
	dead := deadAddr(t)
	host, port, _ := net.SplitHostPort(dead)
	for _, command := range []string{"worker", "drain", "migrate"} {
		t.Run(command, func(t *testing.T) {
			complains(t, map[string]string{
				"FRESHET_DATABASE_URL": "postgres://someone:" + secret + "@" + dead + "/shop?sslmode=disable",
				"FRESHET_REDIS_URL":    "redis://" + dead,
			}, []string{command}, host, port, "refused")
		})
	}
}

func TestUnknownDatabaseIsOneClearLine(t *testing.T) {
	e := newEnv(t)
	u, err := url.Parse(e.workerURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/no_such_database"
	complains(t, map[string]string{"FRESHET_DATABASE_URL": u.String(), "FRESHET_REDIS_URL": e.redisURL}, []string{"worker"}, "no_such_database")
}

func TestMalformedURLsAreRefusedWithoutTheirPassword(t *testing.T) {
	e := newEnv(t)
	for name, bad := range map[string]string{
		"port":         "postgres://someone:" + secret + "@localhost:notaport/shop",
		"host":         "postgres://someone:" + secret + "@local host/shop",
		"escape":       "postgres://someone:%zz" + secret + "@localhost/shop",
		"slash":        "postgres://someone:/" + secret + "@localhost:x/shop",
		"at":           "postgres://someone:" + secret + "@" + secret + "@localhost:x/shop",
		"query":        "postgres://localhost/shop?user=a&password=" + secret + "&sslmode=never",
		"no scheme":    "someone:" + secret + "@localhost/shop",
		"other scheme": "mysql://someone:" + secret + "@localhost/shop",
		"keywords":     "host=localhost password=" + secret + " port=x",
		"quoted":       "host=localhost password='" + secret + " two' sslmode=never",
	} {
		t.Run("postgres "+name, func(t *testing.T) {
			for _, command := range []string{"worker", "migrate"} {
				complains(t, map[string]string{"FRESHET_DATABASE_URL": bad, "FRESHET_REDIS_URL": e.redisURL}, []string{command}, "FRESHET_DATABASE_URL")
			}
		})
	}
	for name, bad := range map[string]string{
		"port":         "redis://:" + secret + "@localhost:notaport",
		"host":         "redis://:" + secret + "@local host:6379",
		"escape":       "redis://:%zz" + secret + "@localhost:6379",
		"database":     "redis://:" + secret + "@localhost:6379/notanumber",
		"option":       "redis://:" + secret + "@localhost:6379/0?" + secret + "=1",
		"no scheme":    ":" + secret + "@localhost:6379",
		"other scheme": "http://:" + secret + "@localhost:6379",
	} {
		t.Run("redis "+name, func(t *testing.T) {
			complains(t, map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": bad}, []string{"worker"}, "FRESHET_REDIS_URL")
		})
		t.Run("named redis "+name, func(t *testing.T) {
			complains(t, map[string]string{
				"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL, "FRESHET_REDIS_URL_EDGE": bad,
			}, []string{"worker"}, "FRESHET_REDIS_URL_EDGE")
		})
	}
}

func TestMalformedSettingsAreRefusedByName(t *testing.T) {
	e := newEnv(t)
	for _, bad := range []struct{ variable, value string }{
		{"FRESHET_CONCURRENCY", "x"},
		{"FRESHET_CONCURRENCY", "0"},
		{"FRESHET_CONCURRENCY", "-1"},
		{"FRESHET_CONCURRENCY", "99999999999999999999"},
		{"FRESHET_LOG_LEVEL", "loud"},
		{"FRESHET_LOG_FORMAT", "xml"},
		{"FRESHET_POLL_ONLY", "perhaps"},
		{"FRESHET_TARGETS", "edge"},
	} {
		t.Run(bad.variable+"="+bad.value, func(t *testing.T) {
			forWorkers(t, func(t *testing.T, args []string) {
				complains(t, map[string]string{
					"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL, bad.variable: bad.value,
				}, args, bad.variable)
			})
		})
	}
}

func TestMissingURLsAreAskedForByName(t *testing.T) {
	e := newEnv(t)
	complains(t, nil, []string{"worker"}, "FRESHET_DATABASE_URL")
	complains(t, nil, []string{"migrate"}, "FRESHET_DATABASE_URL")
	complains(t, map[string]string{"FRESHET_DATABASE_URL": e.workerURL}, []string{"worker"}, "FRESHET_REDIS_URL")
}

func TestFallbackVariablesAreRead(t *testing.T) {
	e := newEnv(t)
	p := startProcess(t, "drain", map[string]string{"DATABASE_URL": e.workerURL, "REDIS_URL": e.redisURL}, "drain")
	if status := p.wait(patience); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestUnknownCommandsAndArgumentsAreOneClearLine(t *testing.T) {
	t.Parallel()
	complains(t, nil, []string{"wroker"}, "wroker", "freshet help")
	for _, args := range [][]string{{"worker", "more"}, {"worker", "--nonsense"}, {"migrate", "more"}, {"drain", "--nonsense"}} {
		p := startProcess(t, strings.Join(args, " "), nil, args...)
		status := p.wait(soon)
		if said := p.stderr.String(); status != 2 || !strings.Contains(said, "usage: freshet "+args[0]) {
			t.Errorf("freshet %s: exit status %d and %q; want 2 and the usage", strings.Join(args, " "), status, said)
		}
	}
}

func TestHelpListsTheCommands(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		p := startProcess(t, "help", nil, args...)
		if status := p.wait(soon); status != 0 {
			t.Errorf("freshet %s: exit status %d", args[0], status)
		}
		for _, command := range []string{"migrate", "worker", "drain", "verify", "demo"} {
			if !strings.Contains(p.stdout.String(), "freshet "+command) {
				t.Errorf("freshet %s does not list %s:\n%s", args[0], command, p.stdout.String())
			}
		}
		if said := p.stderr.String(); said != "" {
			t.Errorf("freshet %s said on stderr: %s", args[0], said)
		}
	}
	p := startProcess(t, "nothing", nil)
	if status := p.wait(soon); status == 0 || !strings.Contains(p.stderr.String(), "freshet worker") {
		t.Errorf("freshet alone: exit status %d and %q; want a failure and the help", status, p.stderr.String())
	}
	for _, command := range []string{"migrate", "worker", "drain"} {
		p := startProcess(t, command, nil, command, "--help")
		if status := p.wait(soon); status != 0 || !strings.Contains(p.stdout.String(), "freshet "+command) {
			t.Errorf("freshet %s --help: exit status %d and %q", command, status, p.stdout.String())
		}
	}
}

func TestVersionIsSaid(t *testing.T) {
	t.Parallel()
	says := func(bin string, args ...string) string {
		t.Helper()
		out, err := exec.Command(bin, args...).Output()
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return string(out)
	}
	line := regexp.MustCompile(`^freshet \S.* \(.*\bgo1\.\S+\)\n$`)
	for _, arg := range []string{"version", "--version"} {
		if said := says(binary(t), arg); !line.MatchString(said) {
			t.Errorf("freshet %s says %q", arg, said)
		}
	}
	// As the image is built.
	set := filepath.Join(t.TempDir(), "freshet")
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`-ldflags="(.*)\$\{VERSION\}"`).FindSubmatch(dockerfile)
	if flags == nil {
		t.Fatal("the Dockerfile sets no version")
	}
	if out, err := exec.Command("go", "build", "-ldflags", string(flags[1])+"v9.8.7", "-o", set, "../cmd/freshet").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if said := says(set, "version"); !strings.HasPrefix(said, "freshet v9.8.7 (") {
		t.Errorf("it says %q", said)
	}
}

func TestWrongPasswordOfRedisIsOneClearLine(t *testing.T) {
	e := newEnv(t)
	user := fmt.Sprintf("user_%d", time.Now().UnixNano())
	ctx := t.Context()
	// Of the whole server, but nobody else has that name.
	if err := e.redis.Do(ctx, "acl", "setuser", user, "on", ">right", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	defer e.redis.Do(ctx, "acl", "deluser", user)
	u, err := url.Parse(e.redisURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, secret)
	forWorkers(t, func(t *testing.T, args []string) {
		complains(t, map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": u.String()}, args, u.Host, "WRONGPASS")
	})
	u.User = url.UserPassword(user, "right")
	p := startProcess(t, "drain", map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": u.String()}, "drain")
	if status := p.wait(patience); status != 0 {
		t.Errorf("with the right password: exit status %d", status)
	}
}

func TestWrongPasswordOfPostgresIsOneClearLine(t *testing.T) {
	t.Parallel()
	// Its own server, since the shared one trusts everybody.
	server := serverstest.PostgresWith(t, nil)
	admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for _, sql := range []string{
		"create role keeper login password 'right' superuser",
		`do $$ begin execute format('copy (values (%L), (%L)) to %L', 'host all postgres all trust', 'host all all all scram-sha-256', current_setting('hba_file')); end $$`,
		"select pg_reload_conf()",
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	// The server reads its new rules in its own time.
	u.User = url.UserPassword("keeper", "wrong")
	deadline := time.Now().Add(patience)
	for {
		conn, err := pgx.Connect(t.Context(), u.String())
		if err != nil {
			break
		}
		conn.Close(t.Context())
		if time.Now().After(deadline) {
			t.Fatal("the server still trusts everybody")
		}
	}
	u.User = url.UserPassword("keeper", secret)
	for _, command := range []string{"worker", "drain", "migrate"} {
		t.Run(command, func(t *testing.T) {
			complains(t, map[string]string{
				"FRESHET_DATABASE_URL": u.String(), "FRESHET_REDIS_URL": "redis://" + deadAddr(t),
			}, []string{command}, "keeper", "password")
		})
	}
	u.User = url.UserPassword("keeper", "right")
	p := startProcess(t, "migrate", map[string]string{"FRESHET_DATABASE_URL": u.String()}, "migrate")
	if status := p.wait(patience); status != 0 {
		t.Errorf("with the right password: exit status %d", status)
	}
}
