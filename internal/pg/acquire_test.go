package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Whoever waits for a connection in vain has not read slowly: fewer rows at a time would not help.
func TestWaitingForAConnectionIsNoSlowRead(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://nobody@%s/none?sslmode=disable&connect_timeout=2&pool_max_conns=1", mute.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	first := make(chan error, 1)
	go func() {
		_, err := acquire(t.Context(), pool, time.Minute)
		first <- err
	}()
	for pool.Stat().ConstructingConns() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := acquire(t.Context(), pool, 50*time.Millisecond); err == nil || TookTooLong(err) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "none of 1 connections") {
		t.Errorf("beside another: %v", err)
	}
	ended, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := acquire(ended, pool, time.Minute); !TookTooLong(err) || strings.Contains(err.Error(), "none of") {
		t.Errorf("who has no time left for it: %v", err)
	}
	if err := <-first; err == nil || TookTooLong(err) || strings.Contains(err.Error(), "none of") {
		t.Errorf("a server that does not answer: %v", err)
	}
}
