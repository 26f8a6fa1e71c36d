package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

const (
	postgresImage = "postgres:17-alpine"
	redisImage    = "redis:7-alpine"
)

// dockerPatience is how long a daemon may take to answer.
const dockerPatience = 1500 * time.Millisecond

// quietDocker keeps testcontainers, which has a global logger, from telling the
// terminal about every daemon and container it meets.
var quietDocker = sync.OnceFunc(func() { tclog.SetDefault(tclog.NewNoopLogger()) })

// dockerAnswers asks the daemon that testcontainers would use.
func dockerAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dockerPatience)
	defer cancel()
	quietDocker()
	// On the side, because not every step of its discovery heeds a context,
	// and some of them panic.
	answer := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				answer <- fmt.Errorf("%v", r)
			}
		}()
		docker, err := testcontainers.NewDockerClientWithOpts(ctx)
		if err == nil {
			_, err = docker.Info(ctx, client.InfoOptions{})
			err = errors.Join(err, docker.Close())
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return errors.New("no answer in time")
	}
}

// runInDocker starts the server in a container. Its port is published on all
// of the host's addresses, so unlike a local one it has a password.
func (p *Postgres) runInDocker(ctx context.Context, o Options) error {
	p.password = rand.Text()
	settings := maps.Clone(postgresDefaults)
	maps.Copy(settings, o.Postgres)
	settings["listen_addresses"] = "*"
	// The image sets itself up through its socket before it opens the port.
	delete(settings, "unix_socket_directories")
	command := []string{"postgres"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		command = append(command, "-c", name+"="+settings[name])
	}
	if err := p.runContainer(ctx, o.log(), postgresImage, "5432/tcp",
		testcontainers.WithEnv(map[string]string{
			"POSTGRES_PASSWORD": p.password, "POSTGRES_INITDB_ARGS": "--no-sync -E UTF8 --locale=C.UTF-8",
		}),
		testcontainers.WithCmd(command...),
	); err != nil {
		return err
	}
	return p.awaitContainer(ctx, func(ctx context.Context) error { return p.answers(ctx, "") })
}

func (r *Redis) runInDocker(ctx context.Context, o Options) error {
	if r.password == "" {
		r.password = rand.Text()
	}
	config := redisConfig(o.Redis, map[string]string{"bind": "0.0.0.0", "port": "6379", "requirepass": r.password})
	const path = "/etc/freshet-redis.conf"
	if err := r.runContainer(ctx, o.log(), redisImage, "6379/tcp",
		testcontainers.WithFiles(testcontainers.ContainerFile{
			Reader: strings.NewReader(config), ContainerFilePath: path, FileMode: 0o644,
		}),
		testcontainers.WithCmd("redis-server", path),
	); err != nil {
		return err
	}
	return r.awaitContainer(ctx, func(ctx context.Context) error { return r.answers(ctx, 0) })
}

// runContainer starts a container and finds out its address.
func (i *instance) runContainer(ctx context.Context, log *slog.Logger, image, port string, opts ...testcontainers.ContainerCustomizer) error {
	log.Info("starting container", "image", image)
	c, err := testcontainers.Run(ctx, image, append(opts, testcontainers.WithExposedPorts(port))...)
	// Even after an error there may be a container.
	i.remove = func() error { return testcontainers.TerminateContainer(c) }
	i.provider = fmt.Sprintf("docker (%s)", image)
	if err == nil {
		i.host, err = c.Host(ctx)
	}
	if err == nil {
		mapped, portErr := c.MappedPort(ctx, port)
		i.port, err = int(mapped.Num()), portErr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("run %s in Docker: %w", image, err), i.Stop())
	}
	return nil
}

// awaitContainer waits until the server in the container answers.
func (i *instance) awaitContainer(ctx context.Context, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()
	if err := await(ctx, nil, answers); err != nil {
		return errors.Join(err, i.Stop())
	}
	return nil
}
