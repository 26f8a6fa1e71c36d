package servers

import (
	"net"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// runInProcess is the last resort of a demo. miniredis lacks what only an
// operator or a test would miss.
func (r *Redis) runInProcess() error {
	m := miniredis.NewMiniRedis()
	if r.password != "" {
		m.RequireAuth(r.password)
	}
	if err := m.Start(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(m.Addr())
	if err != nil {
		m.Close()
		return err
	}
	r.host, r.provider = host, "in process (miniredis)"
	r.port, _ = strconv.Atoi(port)
	ended := make(chan struct{})
	go passTime(m, ended)
	r.remove = func() error {
		close(ended)
		m.Close()
		return nil
	}
	return nil
}

// passTime lets keys expire: the clock of miniredis stands still by itself.
func passTime(m *miniredis.Miniredis, ended <-chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case now := <-tick.C:
			m.FastForward(now.Sub(last))
			last = now
		case <-ended:
			return
		}
	}
}
