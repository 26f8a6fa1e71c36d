package scan_test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/target"
)

// scanned is a server of two pages, which says in its nth INFO server that it is run[n], and
// hangs up before the second page if cut.
type scanned struct {
	mu   sync.Mutex
	runs []string
	cut  bool
}

func (s *scanned) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		words, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
		if err != nil {
			return
		}
		var command []string
		for range words {
			lines.Scan() // $length
			lines.Scan()
			command = append(command, strings.ToLower(lines.Text()))
		}
		reply, cut := s.answer(command)
		if cut {
			return
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func (s *scanned) answer(command []string) (reply string, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case command[0] == "hello":
		return "-ERR unknown command\r\n", false
	case command[0] == "info" && command[1] == "server":
		text := "run_id:" + s.runs[0] + "\r\n"
		if s.runs[0] == "" {
			return "-NOPERM no INFO\r\n", false
		}
		if len(s.runs) > 1 {
			s.runs = s.runs[1:]
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text), false
	case command[0] == "info":
		return "$0\r\n\r\n", false
	case command[0] == "scan" && command[1] == "0":
		return "*2\r\n$1\r\n7\r\n*1\r\n$7\r\nusers:1\r\n", false
	case command[0] == "scan" && s.cut:
		s.cut = false
		return "", true
	case command[0] == "scan":
		return "*2\r\n$1\r\n0\r\n*1\r\n$7\r\nusers:2\r\n", false
	}
	return "+OK\r\n", false
}

// A position means nothing to another run of a server: whoever went on with it would miss keys.
func TestScanIsOfOneRunOfTheServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		runs  []string
		cut   bool
		whole bool
	}{
		{"the same to the end", []string{"a"}, false, true},
		{"the connection is lost, and the server the same", []string{"a"}, true, true},
		{"the connection is lost, and the server another", []string{"a", "b"}, true, false},
		{"the connection is kept, and the server another", []string{"a", "b"}, false, false},
		{"nobody tells", []string{""}, false, true},
		{"the connection is lost, and nobody tells", []string{""}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			server := &scanned{runs: c.runs, cut: c.cut}
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go server.serve(conn)
				}
			}()
			tg, err := target.Parse("default", "redis://"+listener.Addr().String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tg.Close()
			template, err := key.NewTemplate([]key.Part{{Text: "users:"}, {IsColumn: true, Class: key.Int64}}, 1)
			if err != nil {
				t.Fatal(err)
			}
			sink := &catalog.Sink{Template: template}
			found := 0
			err = scan.Keys(t.Context(), nil, tg, sink, nil, func(keys []string, _ [][]string) error {
				found += len(keys)
				return nil
			})
			if (err == nil) != c.whole {
				t.Fatalf("%v", err)
			}
			if c.whole && found != 2 {
				t.Errorf("%d keys of 2", found)
			}
		})
	}
}
