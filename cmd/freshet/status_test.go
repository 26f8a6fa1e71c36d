package main

import (
	"strings"
	"testing"
	"time"
)

func TestWhatShardsHaveInCommonIsSaidOnce(t *testing.T) {
	t.Parallel()
	refused, broken := "connection refused", "column active is gone"
	ago := func(d time.Duration) *time.Time {
		at := time.Now().Add(-d)
		return &at
	}
	var out strings.Builder
	err := printWhy(&out, []laneStatus{
		{Sink: "active", Target: "default", Shard: 0, LastError: &broken},
		{Sink: "active", Target: "default", Shard: 1, LastError: &broken},
		{Sink: "users", Target: "default", Shard: 0, LastError: &refused, LastErrorAt: ago(time.Hour)},
		{Sink: "users", Target: "default", Shard: 1},
		{Sink: "users", Target: "default", Shard: 2, LastError: &refused, LastErrorAt: ago(3 * time.Second)},
		{Sink: "users", Target: "eu", Shard: 0, LastError: &refused, LastErrorAt: ago(time.Minute)},
		{Sink: "users", Target: "eu", Shard: 1, LastError: &broken},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `active on default: column active is gone
users on default, shards 0, 2, 3s ago: connection refused
users on eu, shard 0, 1m0s ago: connection refused
users on eu, shard 1: column active is gone
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
