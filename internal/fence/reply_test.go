package fence_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/target"
)

// A server that fails one command of a transaction and does the others has not applied the
// batch, whatever the control key says then. Redis itself does not; what speaks its protocol may.
func TestErrorInsideATransactionIsTheBatchs(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	f := fenced(1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var (
			r      = bufio.NewReader(conn)
			key    = map[string]string{"fence": f.String(), "cursor": "c0"}
			queued []string // the replies
			multi  bool
		)
		for {
			var n int
			if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
				return
			}
			args := make([]string, n)
			for i := range args {
				var size int
				if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
					return
				}
				text := make([]byte, size+2)
				if _, err := io.ReadFull(r, text); err != nil {
					return
				}
				args[i] = string(text[:size])
			}
			reply := "+OK"
			switch name := strings.ToLower(args[0]); {
			case name == "hello":
				reply = "-ERR unknown command 'hello'"
			case name == "multi":
				multi = true
			case name == "exec":
				reply = fmt.Sprintf("*%d\r\n%s", len(queued), strings.Join(queued, "\r\n"))
				multi, queued = false, nil
			case multi:
				done := ":1"
				if name == "hset" {
					for i := 2; i < len(args); i += 2 {
						key[args[i]] = args[i+1]
					}
				}
				if name == "mset" {
					done = "-ERR not today"
				}
				reply, queued = "+QUEUED", append(queued, done)
			case name == "hmget":
				reply = fmt.Sprintf("*%d", len(args)-2)
				for _, field := range args[2:] {
					if value, ok := key[field]; ok {
						reply += fmt.Sprintf("\r\n$%d\r\n%s", len(value), value)
					} else {
						reply += "\r\n$-1"
					}
				}
			}
			if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
				return
			}
		}
	}()
	to, err := target.Parse("default", "redis://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	w, err := fence.Open(t.Context(), to, control, "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Write(t.Context(), f, "c0", "c1", entries{{"b", "-"}}); err != nil {
		t.Fatalf("a batch that the server takes: %v", err)
	}
	for range 2 {
		if err := w.Write(t.Context(), f, "c1", "c2", entries{{"a", "1"}, {"b", "-"}}); err == nil || err.Error() != "ERR not today" {
			t.Errorf("the answer came out as %v", err)
		}
	}
}
