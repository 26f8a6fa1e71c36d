package worker_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/worker"
)

// signUp is a job of the program's own.
type signUp struct {
	Name string `json:"name"`
}

func (signUp) Kind() string { return "sign_up" }

// A program that has its own River jobs, in its own schema, keeps its cache in step too.
func Example_besideTheProgramsOwnRiver() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	// Stand-ins for the program's database and cache.
	postgres, err := servers.StartPostgres(ctx, servers.Options{Purpose: servers.Test})
	if err != nil {
		log.Fatal(err)
	}
	defer postgres.Stop()
	cache, err := servers.StartRedis(ctx, servers.Options{Purpose: servers.Test})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Stop()
	databaseURL := postgres.URL("postgres")
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	// The program's own tables and its own River, in schema public.
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		log.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "create table users (id bigint primary key, name text)"); err != nil {
		log.Fatal(err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[signUp]) error {
		_, err := pool.Exec(ctx, "insert into users values (7, $1)", job.Args.Name)
		return err
	}))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}, Workers: workers, Logger: quiet,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer client.Stop(ctx)

	// Freshet: installed as `freshet migrate` does it, a sink, and a worker in this program.
	if err := worker.Migrate(ctx, databaseURL, quiet); err != nil {
		log.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "select freshet.create_sink('users', 'users')"); err != nil {
		log.Fatal(err)
	}
	w, err := worker.New(ctx, worker.Config{
		DatabaseURL: databaseURL,
		Targets:     map[string]string{"default": cache.URL()},
		Logger:      quiet,
	})
	if err != nil {
		log.Fatal(err)
	}
	workCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(workCtx) }()

	// A job of the program's writes a row, and the entry follows.
	if _, err := client.Insert(ctx, signUp{Name: "Ada"}, nil); err != nil {
		log.Fatal(err)
	}
	options, err := redis.ParseURL(cache.URL())
	if err != nil {
		log.Fatal(err)
	}
	reader := redis.NewClient(options)
	defer reader.Close()
	entry := ""
	for entry == "" && ctx.Err() == nil {
		entry, _ = reader.Get(ctx, "users:7").Result()
	}
	fmt.Println(entry)

	stop()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output: {"id":7,"name":"Ada"}
}

// A sink with transform => 'go:card' has its entries made by this function.
func ExampleRegisterTransform() {
	worker.RegisterTransform("card", func(_ context.Context, r worker.Record) (worker.Value, error) {
		if r.IsNull("name") {
			return worker.None(), nil // no entry
		}
		id, err := r.Int64("id")
		if err != nil {
			return worker.None(), err // this entry fails, the others go on
		}
		return worker.JSON(map[string]any{"id": id, "name": strings.ToUpper(r.Text("name"))}), nil
	})
}
