package target_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/target"
)

func parse(t *testing.T, url string) *target.Target {
	t.Helper()
	tg, err := target.Parse("default", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg
}

// A WATCH belongs to a connection: a client that dialled again would write without it.
func TestSingleNeverDialsAgain(t *testing.T) {
	t.Parallel()
	tg := parse(t, serverstest.RedisServer(t, nil).URL())
	client := tg.Single()
	defer client.Close()
	id, err := client.ClientID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Shared().ClientKillByFilter(t.Context(), "ID", strconv.FormatInt(id, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := client.Set(t.Context(), "written", "without a fence", 0).Err(); err == nil {
			t.Fatal("a second connection was made")
		}
	}
	if n := tg.Shared().Exists(t.Context(), "written").Val(); n != 0 {
		t.Error("the write landed")
	}
	if err := client.Ping(t.Context()).Err(); !errors.Is(err, target.ErrConnectionLost) {
		t.Errorf("%v; want ErrConnectionLost", err)
	}
}

func TestCheckTakesAServerThatRunsTransactions(t *testing.T) {
	t.Parallel()
	if err := parse(t, serverstest.Redis(t)).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCheckRefusesACluster(t *testing.T) {
	t.Parallel()
	server := serverstest.RedisServer(t, map[string]string{"cluster-enabled": "yes"})
	err := parse(t, server.URL()).Check(t.Context())
	if !errors.Is(err, target.ErrUnsuitable) || !strings.Contains(err.Error(), "Redis Cluster") {
		t.Errorf("%v", err)
	}
}

// Some proxies take MULTI and run what follows at once.
func TestCheckRefusesAServerWithoutTransactions(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerOK(conn)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = parse(t, "redis://"+listener.Addr().String()).Check(ctx)
	if !errors.Is(err, target.ErrUnsuitable) {
		t.Errorf("%v; want ErrUnsuitable", err)
	}
}

// answerOK says +OK to every command but HELLO, which older servers do not know.
func answerOK(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		words, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
		if err != nil {
			return
		}
		reply := "+OK\r\n"
		for range words {
			lines.Scan() // $length
			lines.Scan()
			if strings.EqualFold(lines.Text(), "hello") {
				reply = "-ERR unknown command\r\n"
			}
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func TestParseNeverRepeatsTheURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://:hush@host:port", "hush", "http://:hush@host", "redis://:%zzhush@host", "redis://:hush@host/x"} {
		if _, err := target.Parse("default", url, nil); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
