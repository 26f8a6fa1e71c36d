package source

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Who could do without a connection takes none where it would be the last, of which those count, too, that are being made.
func TestTheLastConnectionIsNotFree(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://nobody@%s/none?sslmode=disable&connect_timeout=1&pool_max_conns=4", mute.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	r := &Reader{pool: pool}
	for taken, free := range []bool{true, true, true, false, false} {
		for deadline := time.Now().Add(time.Second); pool.Stat().ConstructingConns() < int32(taken); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d connections are being made", pool.Stat().ConstructingConns(), taken)
			}
		}
		if r.Free() != free {
			t.Errorf("beside %d others, one is free: %v", taken, r.Free())
		}
		go func() {
			if conn, err := pool.Acquire(t.Context()); err == nil {
				conn.Release()
			}
		}()
	}
}
