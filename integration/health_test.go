package integration

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// page is what a worker's handler answers.
func page(w *worker.Worker, path string) (status int, text string) {
	answer := httptest.NewRecorder()
	w.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer.Code, answer.Body.String()
}

// awaitReady waits until /readyz has a status and says each of these texts.
func (e *env) awaitReady(w *worker.Worker, status int, texts ...string) {
	e.t.Helper()
	var got int
	var said string
	e.await("readyz changes", func() bool {
		got, said = page(w, "/readyz")
		if strings.Contains(said, secret) {
			e.t.Fatalf("readyz says the password: %s", said)
		}
		if got != status {
			return false
		}
		for _, text := range texts {
			if !strings.Contains(said, text) {
				return false
			}
		}
		return true
	})
	e.t.Logf("readyz: %d %s", got, strings.TrimSpace(said))
}

func TestReadyzSaysInWordsWhatIsMissing(t *testing.T) {
	t.Parallel()
	postgres := serverstest.PostgresWith(t, nil)
	databaseURL, err := postgres.CreateDatabase(t.Context(), "watched")
	if err != nil {
		t.Fatal(err)
	}
	cache := serverstest.RedisServer(t, map[string]string{"requirepass": secret})
	e := newEnvOn(t, databaseURL, cache.URL())
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	second := serverstest.RedisServer(t, nil)
	e.targets = map[string]string{"edge": second.URL()}
	w, stop := e.startWith(func(*worker.Config) {})
	alive := func() {
		t.Helper()
		if status, said := page(w, "/healthz"); status != http.StatusOK || said != "alive\n" {
			t.Errorf("healthz: %d %s", status, said)
		}
	}
	e.awaitReady(w, http.StatusOK, "ready\n")
	e.settle()

	if err := cache.Pause(); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusServiceUnavailable, "target default: no answer within 2s\n")
	alive()
	if err := cache.Resume(); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusOK, "ready\n")

	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusServiceUnavailable, "target edge: ", "refused")
	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusOK)

	if err := postgres.Halt(); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusServiceUnavailable, "Postgres: ", "heartbeat: the last one was ")
	alive()
	if status, said := page(w, "/metrics"); status != http.StatusOK || !strings.Contains(said, "freshet_lag_seconds{") {
		t.Errorf("without Postgres, metrics has status %d and no lag:\n%s", status, said)
	}
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.awaitReady(w, http.StatusOK)
	alive()

	stop()
	e.awaitReady(w, http.StatusServiceUnavailable, "the worker has stopped\n")
	if status, _ := page(w, "/healthz"); status != http.StatusServiceUnavailable {
		t.Errorf("healthz of a stopped worker has status %d", status)
	}
	if status, _ := page(w, "/metrics"); status != http.StatusOK {
		t.Errorf("metrics of a stopped worker have status %d", status)
	}
}

func TestWorkerIsNotReadyBeforeItRuns(t *testing.T) {
	e := newEnv(t)
	w, err := worker.New(t.Context(), worker.Config{DatabaseURL: e.workerURL, Targets: map[string]string{"default": e.redisURL}, HTTPAddr: "127.0.0.1:0", Logger: e.logger()})
	if err != nil {
		t.Fatal(err)
	}
	if status, said := get(t, "http://"+w.HTTPAddr()+"/readyz"); status != http.StatusServiceUnavailable || said != "the worker is starting\n" {
		t.Errorf("readyz: %d %q", status, said)
	}
	if status, said := get(t, "http://"+w.HTTPAddr()+"/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d %q", status, said)
	}
	addr := w.HTTPAddr()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("a closed worker still listens")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

var serving = regexp.MustCompile(`msg="serving health and metrics" addr=(\S+)`)

// serves starts a worker with some variables and returns where it serves, "" for nowhere.
func (e *env) serves(variables map[string]string) string {
	e.t.Helper()
	environment := map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL}
	for name, value := range variables {
		environment[name] = value
	}
	p := startProcess(e.t, "worker", environment, "worker")
	e.await("the worker works", func() bool { return strings.Contains(p.stderr.String(), "msg=working") })
	if found := serving.FindStringSubmatch(p.stderr.String()); found != nil {
		return found[1]
	}
	return ""
}

func TestCommandServesWhereItIsTold(t *testing.T) {
	e := newEnv(t)
	_, port, _ := net.SplitHostPort(deadAddr(t))
	for name, c := range map[string]struct {
		variables map[string]string
		want      string // of the address
	}{
		"address":          {map[string]string{"FRESHET_HTTP_ADDR": "127.0.0.1:0"}, "127.0.0.1:"},
		"port":             {map[string]string{"PORT": port}, ":" + port},
		"address and port": {map[string]string{"FRESHET_HTTP_ADDR": "127.0.0.1:0", "PORT": "nonsense"}, "127.0.0.1:"},
	} {
		addr := e.serves(c.variables)
		if !strings.Contains(addr, c.want) {
			t.Errorf("%s: it serves at %q", name, addr)
			continue
		}
		_, at, _ := net.SplitHostPort(addr)
		for path, want := range map[string]string{"/healthz": "alive", "/readyz": "", "/metrics": "freshet_build_info{"} {
			if _, said := get(t, "http://127.0.0.1:"+at+path); !strings.Contains(said, want) {
				t.Errorf("%s: %s says %q", name, path, said)
			}
		}
	}
	if addr := e.serves(nil); addr != "" {
		t.Errorf("without being told it serves at %s", addr)
	}
}

func TestBadPlaceToServeIsRefusedByName(t *testing.T) {
	e := newEnv(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, bad := range []struct{ variable, value, says string }{
		{"FRESHET_HTTP_ADDR", "9090", ":9090"},
		{"FRESHET_HTTP_ADDR", "localhost", ":9090"},
		{"FRESHET_HTTP_ADDR", ":http", ":9090"},
		{"FRESHET_HTTP_ADDR", ":70000", ":9090"},
		{"FRESHET_HTTP_ADDR", taken.Addr().String(), "in use"},
		{"PORT", "x", "65535"},
		{"PORT", "0", "65535"},
		{"PORT", ":8080", "65535"},
		{"PORT", port, "in use"},
	} {
		t.Run(bad.variable+"="+bad.value, func(t *testing.T) {
			complains(t, map[string]string{
				"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL, bad.variable: bad.value,
			}, []string{"worker"}, bad.variable, bad.says)
		})
	}
	// A drain beside a worker does not want its port.
	p := startProcess(t, "drain", map[string]string{
		"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL, "FRESHET_HTTP_ADDR": taken.Addr().String(),
	}, "drain")
	if status := p.wait(patience); status != 0 {
		t.Errorf("drain: exit status %d: %s", status, p.stderr.String())
	}
}
