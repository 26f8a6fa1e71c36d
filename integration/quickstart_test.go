package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the README says to type is typed, on servers where Freshet is not installed yet.
func TestFiveMinutesOfTheReadme(t *testing.T) {
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Skip("there is no redis-cli")
	}
	e := newEnv(t).admin()
	e.exec("drop schema freshet cascade")
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Five minutes")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(dir, "bin", "freshet")); err != nil {
		t.Fatal(err)
	}
	type step struct{ kind, text string }
	var steps []step
	for _, found := range regexp.MustCompile("(?s)\n```(\\w*)\n(.*?)\n```").FindAllStringSubmatch(section, -1) {
		steps = append(steps, step{found[1], found[2]})
	}
	said := ""
	for _, s := range steps {
		switch {
		case strings.Contains(s.text, "make build"):
			// The variables are this test's, and so is the binary.
		case s.text == "bin/freshet worker":
			p := e.process("worker")
			defer p.kill()
			e.await("the sink is warm", func() bool {
				return one[bool](e, "select coalesce(bool_and(state = 'live' and coverage = 'full'), false) from freshet.status")
			})
		case s.kind == "sql":
			apply(t, e.superURL, s.text)
		case s.kind == "sh":
			cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", s.text)
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "FRESHET_DATABASE_URL=" + e.superURL, "FRESHET_REDIS_URL=" + e.redisURL}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s\n%v\n%s", s.text, err, out)
			}
			said = string(out)
		default:
			if got := lastLine(said); got != s.text {
				t.Errorf("it prints %q; the README says %q", got, s.text)
			}
		}
	}
	if len(steps) < 8 || said == "" {
		t.Fatalf("the README has %d steps", len(steps))
	}
	e.await("the sink is gone", func() bool { return one[int](e, "select count(*) from freshet.sinks") == 0 })
	// Control keys of backfills that are over go by themselves, some minutes later.
	for _, key := range e.redis.Keys(t.Context(), "*").Val() {
		if e.redis.PTTL(t.Context(), key).Val() <= 0 {
			t.Errorf("%s is left in Redis", key)
		}
	}
	if one[bool](e, "select to_regclass('freshet_try') is not null") {
		t.Error("the table is left")
	}
}
