package doorbell

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

// A request can be served after the lock was taken for another one, and kept after a ring: taken again it would be
// held twice, and given back once.
func TestLockThatIsKeptIsNotTakenTwice(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), serverstest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	b := New(nil, nil, false, slog.New(slog.DiscardHandler))
	lock := func() {
		t.Helper()
		if armed, err := b.lock(t.Context(), conn, 1); err != nil || !armed {
			t.Fatalf("armed: %v, %v", armed, err)
		}
	}
	held := func() (n int) {
		t.Helper()
		err := conn.QueryRow(t.Context(), "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lock()
	if back := b.rung(1); back != loose || held() != 1 {
		t.Fatalf("after a ring %v is given back, and %d are held", back, held())
	}
	lock()
	if back := b.rung(1); back != loose {
		t.Fatalf("after a ring %v is given back", back)
	}
	// Two rings while nobody arms.
	back := b.rung(1)
	if back != own {
		t.Fatalf("after two rings %v is given back", back)
	}
	if err := unlock(t.Context(), conn, 1, back); err != nil {
		t.Fatal(err)
	}
	if n := held(); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}
