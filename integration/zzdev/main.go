package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/worker"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	url := "postgres://postgres@127.0.0.1:54999/bf?sslmode=disable"
	db, _ := pgxpool.New(ctx, url)
	r := redis.NewClient(&redis.Options{Addr: "127.0.0.1:54998"})
	w, err := worker.New(ctx, worker.Config{DatabaseURL: url, Targets: map[string]string{"default": "redis://127.0.0.1:54998"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	r.FlushAll(ctx)
	exec := func(sql string) {
		if _, err := db.Exec(ctx, sql); err != nil {
			panic(err)
		}
	}
	exec("select freshet.create_sink('people','people',key=>'people:${id}',backfill=>false)")
	time.Sleep(1500 * time.Millisecond)
	f, _ := os.Create("/tmp/dev/cpu.prof")
	var a, b syscall.Rusage
	syscall.Getrusage(0, &a)
	pprof.StartCPUProfile(f)
	t := time.Now()
	var id int64
	db.QueryRow(ctx, "select freshet.backfill('people')").Scan(&id)
	for ok := false; !ok; time.Sleep(2 * time.Millisecond) {
		db.QueryRow(ctx, "select state in ('sweeping','completed') from freshet.backfills where id=$1", id).Scan(&ok)
	}
	fmt.Println(time.Since(t))
	pprof.StopCPUProfile()
	syscall.Getrusage(0, &b)
	fmt.Println("go cpu ms", (b.Utime.Nano()+b.Stime.Nano()-a.Utime.Nano()-a.Stime.Nano())/1e6)
	t = time.Now()
	for ok := false; !ok; time.Sleep(2 * time.Millisecond) {
		db.QueryRow(ctx, "select state in ('completed') from freshet.backfills where id=$1", id).Scan(&ok)
	}
	fmt.Println("sweep", time.Since(t))
	exec("select freshet.drop_sink('people', keep_entries=>true)")
	time.Sleep(1500 * time.Millisecond)
	cancel()
	<-done
}
