package metrics_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/target"
)

// series returns the lines of a scrape that begin with a prefix.
func series(t *testing.T, m *metrics.Metrics, prefix string) []string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	var found []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, prefix) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// reply is an error as a Redis server says it.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

var _ redis.Error = reply("")

func TestErrorsHaveABoundedSetOfKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		redis bool
		err   error
		kind  string // empty: not counted
	}{
		{true, nil, ""},
		{true, redis.Nil, ""},
		{true, context.Canceled, ""},
		{true, reply("OOM command not allowed when used memory > 'maxmemory'."), "oom"},
		{true, fmt.Errorf("write: %w", reply("READONLY You can't write against a read only replica.")), "readonly"},
		{true, reply("LOADING Redis is loading the dataset in memory"), "loading"},
		{true, reply("NOPERM this user has no permissions"), "noperm"},
		{true, reply("ERR whatever"), "other"},
		{true, reply("users:7:secret is wrong"), "other"},
		{true, fmt.Errorf("write: %w", fence.ErrFenced), "fenced"},
		{true, fence.ErrUnowned, "unowned"},
		{true, target.ErrConnectionLost, "connection"},
		{true, io.EOF, "connection"},
		{true, context.DeadlineExceeded, "timeout"},
		{true, os.ErrDeadlineExceeded, "timeout"},
		{true, &tls.CertificateVerificationError{Err: errors.New("unknown authority")}, "tls"},
		{false, nil, ""},
		{false, pgx.ErrNoRows, ""},
		{false, fmt.Errorf("timeout: %w", context.Canceled), ""},
		{false, &pgconn.PgError{Code: "57P01"}, "57"},
		{false, &pgconn.PgError{Code: "40001"}, "40"},
		{false, &pgconn.PgError{Code: "08006"}, "connection"},
		{false, &pgconn.PgError{Code: "ZZ123"}, "other"},
		{false, &pgconn.PgError{Code: ""}, "other"},
		{false, fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "connection"},
		{false, context.DeadlineExceeded, "timeout"},
		{false, errors.New("whatever"), "other"},
	} {
		m := metrics.New()
		var got, want []string
		if c.redis {
			m.RedisError("edge", c.err)
			got = series(t, m, "freshet_redis_errors_total")
			want = []string{fmt.Sprintf(`freshet_redis_errors_total{kind=%q,target="edge"} 1`, c.kind)}
		} else {
			m.PostgresError(c.err)
			got = series(t, m, "freshet_postgres_errors_total")
			want = []string{fmt.Sprintf(`freshet_postgres_errors_total{kind=%q} 1`, c.kind)}
		}
		if c.kind == "" {
			want = nil
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: %v; want %v", c.err, got, want)
		}
	}
}

func TestNothingIsCountedOnNil(t *testing.T) {
	t.Parallel()
	var m *metrics.Metrics
	m.Lane("users", "default", "0").Written(3, 1)
	m.Lane("users", "default", "0").Failed(1)
	m.Lane("users", "default", "0").Fenced()
	m.Work("users", "default").Rows(1)
	m.Work("users", "default").Failed(1)
	m.Work("users", "default").Fenced()
	m.Rewarm("users", metrics.Lost)
	m.TookOver(1)
	m.HeartbeatFailed()
	m.UpkeepFailed()
	m.RedisError("default", io.EOF)
	m.PostgresError(io.EOF)
}

func TestEveryWorkerHasARegistryOfItsOwn(t *testing.T) {
	t.Parallel()
	one, other := metrics.New(), metrics.New()
	lane := one.Lane("users", "default", "0")
	lane.Written(10, 4)
	lane.Written(5, 0)
	lane.Batch()
	lane.Batch()
	lane.Failed(2)
	for metric, value := range map[string]int{"entries_written": 11, "entries_deleted": 4, "entries_failed": 2, "batches": 2} {
		name := "freshet_" + metric + "_total"
		want := fmt.Sprintf(`[%s{shard="0",sink="users",target="default"} %d]`, name, value)
		if got := fmt.Sprint(series(t, one, name)); got != want {
			t.Errorf("%s; want %s", got, want)
		}
		if got := series(t, other, name); len(got) > 0 {
			t.Errorf("another registry has %v", got)
		}
	}
}

func TestBatchIsCountedWithoutAllocating(t *testing.T) {
	lane := metrics.New().Lane("users", "default", "0")
	if n := testing.AllocsPerRun(100, func() { lane.Written(2000, 7); lane.Batch() }); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

func BenchmarkBatch(b *testing.B) {
	lane := metrics.New().Lane("users", "default", "0")
	b.ReportAllocs()
	for b.Loop() {
		lane.Written(2000, 7)
		lane.Batch()
	}
}
