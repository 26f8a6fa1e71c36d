package integration

import (
	"bytes"
	"strings"
	"testing"
)

// noMoments makes a server one that does not know SET … PXAT.
type noMoments struct{}

func (noMoments) pass(_ *link, d direction, piece []byte) ([]byte, bool) {
	if d == toWorker {
		return piece, false
	}
	return bytes.ReplaceAll(piece, []byte("pxat"), []byte("what")), false
}

// A server that cannot have entries expire at a moment is told from one that can before
// anything is written, and nothing is lost by the time it is replaced.
func TestServerThatKnowsNoMomentsIsWaitedFor(t *testing.T) {
	r := newRefusing(t, nil)
	r.exec("create table sessions (id bigint primary key, ends timestamptz)")
	r.exec("insert into sessions select g, now() + interval '1 day' from generate_series(1, 300) g")
	r.proxy.guarded(noMoments{})
	r.exec("select freshet.create_sink('sessions', 'sessions', expires_at => 'ends')")
	r.start()
	r.exec("update sessions set ends = now() + interval '2 days' where id <= 100")
	r.await("status says what is wrong", func() bool {
		said := one[*string](r.env, "select last_error from freshet.status")
		return said != nil && strings.Contains(*said, "Redis 6.2")
	})
	if n := r.hand.Exists(t.Context(), "sessions:1", "sessions:200").Val(); n != 0 {
		t.Errorf("%d entries are there", n)
	}
	r.proxy.guarded(nil)
	r.settle()
	r.inStep("sessions:*", "select 'sessions:' || id, to_jsonb(s)::text from sessions s")
}
