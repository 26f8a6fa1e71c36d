package servers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// diesInside tells this test binary to start both servers, say which
// processes they are, and wait to be killed.
const diesInside = "FRESHET_SERVERS_TEST_DIES"

func TestServersDieWithUsEvenByKill9(t *testing.T) {
	if os.Getenv(diesInside) != "" {
		dieWithServers()
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "killed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), diesInside+"=1", "TMPDIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var postgres, redis int
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &postgres, &redis)
	}
	backends := childrenOf(postgres)
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if len(backends) == 0 {
		t.Error("the postmaster had no children")
	}
	for _, pid := range append(backends, postgres, redis) {
		gone(t, pid)
	}

	if left := privateDirs(t, dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
	sweep(dir)
	if left := privateDirs(t, dir); len(left) != 0 {
		t.Errorf("not swept: %v", left)
	}
}

func dieWithServers() {
	p, err := StartPostgres(context.Background(), Options{Purpose: Test})
	if err == nil {
		var r *Redis
		if r, err = StartRedis(context.Background(), Options{Purpose: Test}); err == nil {
			// Servers have to outlive the threads that were busy meanwhile.
			fmt.Println(p.PID(), r.PID())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}
