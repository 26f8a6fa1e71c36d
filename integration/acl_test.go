package integration

import (
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// aclLine is the command in the README that makes a user of Redis for Freshet.
var aclLine = regexp.MustCompile(`(?m)^ACL SETUSER freshet (.+)$`)

// aclRules are those of the README's user.
func aclRules(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := aclLine.FindStringSubmatch(string(readme))
	if found == nil {
		t.Fatal("README has no line that begins with ACL SETUSER freshet")
	}
	return strings.Fields(found[1])
}

// limited makes e reach its Redis, a server of its own, as a user with these rules, and
// the test as the default user.
func (e *env) limited(user string, rules []string) {
	e.t.Helper()
	args := []any{"acl", "setuser", user, "reset", "on", ">" + secret}
	for _, rule := range rules {
		if rule != "on" && !strings.HasPrefix(rule, ">") {
			args = append(args, rule)
		}
	}
	if err := e.redis.Do(e.t.Context(), args...).Err(); err != nil {
		e.t.Fatal(err)
	}
	u, err := url.Parse(e.redisURL)
	if err != nil {
		e.t.Fatal(err)
	}
	u.User = url.UserPassword(user, secret)
	e.redisURL = u.String()
}

// denials is what the server refused, as in ACL LOG.
func (e *env) denials() []string {
	e.t.Helper()
	entries, err := e.redis.ACLLog(e.t.Context(), 100).Result()
	if err != nil {
		e.t.Fatal(err)
	}
	var denied []string
	for _, entry := range entries {
		denied = append(denied, entry.Reason+" "+entry.Object)
	}
	return denied
}

func newLimited(t *testing.T, database int, rules []string) *env {
	t.Helper()
	server := serverstest.RedisServer(t, nil)
	e := newEnvOn(t, serverstest.Postgres(t), server.DatabaseURL(database))
	e.limited("freshet", rules)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 500) g")
	return e
}

// Everything that Freshet does, as the user of the README: no command is refused.
func TestUserOfTheReadmeMayDoAllThatIsNeeded(t *testing.T) {
	t.Parallel()
	e := newLimited(t, 3, aclRules(t))
	e.exec("select freshet.create_sink('users', 'users')")
	w, stop := e.startWith(func(*worker.Config) {})
	e.awaitReady(w, 200)
	e.settle()
	e.exec("update users set name = 'other' where id < 50")
	e.exec("delete from users where id > 450")
	e.settle()
	e.inStep("users:*", usersPromise)
	e.exec("select freshet.alter_sink('users', shards => 3)")
	e.exec("update users set name = 'of shards'")
	e.settle()
	// A stray that a sweep has to find.
	if err := e.redis.Set(t.Context(), "users:1000", "{}", 0).Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("select freshet.sweep('users')")
	e.settle()
	e.inStep("users:*", usersPromise)
	// Keys of nobody's, and entries that expire.
	if err := e.redis.Set(t.Context(), "users:again:1", "{}", 0).Err(); err != nil {
		t.Fatal(err)
	}
	e.exec("select freshet.create_sink('again', 'users', key => 'users:again:${id}', expires => '1 hour')")
	e.await("the sink is blocked", func() bool { return e.stateOf("again") == "blocked" })
	e.exec("select freshet.alter_sink('again', adopt => true)")
	e.await("the sink is live", func() bool { return e.stateOf("again") == "live" })
	e.settle()
	for _, args := range [][]string{{"verify", "users"}, {"verify", "again"}, {"get", "users", "users:7"}, {"get", "again", "users:again:7"}} {
		if stdout, stderr, status := e.freshet(args...); status != 0 {
			t.Errorf("%v: %d %s%s", args, status, stdout, stderr)
		}
	}
	e.exec("select freshet.drop_sink('users'), freshet.drop_sink('again')")
	e.settle()
	if keys := e.redis.Keys(t.Context(), "users:*").Val(); len(keys) > 0 {
		t.Errorf("after the sinks were dropped there are %v", keys)
	}
	stop()
	if denied := e.denials(); len(denied) > 0 {
		t.Errorf("the server refused %q", denied)
	}
}

func TestMissingCommandIsNamedAtTheStart(t *testing.T) {
	t.Parallel()
	rules := aclRules(t)
	e := newLimited(t, 0, rules)
	// Without these it works all the same.
	optional := []string{"+info", "+config|get", "+client|setname", "+select", "+ping"}
	for _, rule := range rules {
		if !strings.HasPrefix(rule, "+") || slices.Contains(optional, rule) {
			continue
		}
		e.limited("freshet", slices.DeleteFunc(slices.Clone(rules), func(r string) bool { return r == rule }))
		complains(t, map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL}, []string{"worker"},
			"its user may not run "+strings.TrimPrefix(rule, "+")+",")
	}
	e.limited("freshet", slices.DeleteFunc(slices.Clone(rules), func(r string) bool { return r == "~freshet:*" }))
	complains(t, map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL}, []string{"worker"},
		"its user may not use the keys that begin with freshet:")
}

func TestMissingKeyPatternIsSaidInStatus(t *testing.T) {
	t.Parallel()
	rules := slices.DeleteFunc(aclRules(t), func(r string) bool { return r == "~users:*" })
	e := newLimited(t, 0, rules)
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.await("status says which keys", func() bool {
		return strings.Contains(one[string](e, "select coalesce(min(last_error), '') from freshet.status"), "its user needs the keys users:* and freshet:*")
	})
	e.limited("freshet", append(rules, "~users:*"))
	e.settle()
	e.inStep("users:*", usersPromise)
}
