package integration

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// direction is which way bytes go through a proxy.
type direction int

const (
	toServer direction = iota
	toWorker
)

func (d direction) String() string {
	return [...]string{"to the server", "to the worker"}[d]
}

// proxy stands between workers and one server. It lets through what its guard lets
// through, and cuts a connection where the guard says so.
type proxy struct {
	t        *testing.T
	listener net.Listener

	mu     sync.Mutex
	server string
	guard  guard
	links  map[*link]struct{}
	ended  bool
	wg     sync.WaitGroup
}

// guard is asked about every piece that came in, one piece at a time: what of it, and of
// what it held back before, goes on now, and whether the connection ends after that.
type guard interface {
	pass(l *link, d direction, piece []byte) (on []byte, cut bool)
}

// link is one connection through a proxy.
type link struct {
	worker, server net.Conn
	// memory is what a guard keeps of this connection.
	memory any
}

func (l *link) cut() {
	_ = l.worker.Close()
	_ = l.server.Close()
}

// newProxy makes a proxy for the server of a URL and returns the URL that leads through it.
func newProxy(t *testing.T, serverURL string) (p *proxy, throughURL string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{t: t, server: u.Host, links: make(map[*link]struct{})}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.cutAll()
		p.wg.Wait()
	})
	through := *u
	through.Host = p.listener.Addr().String()
	return p, through.String()
}

// guarded sets who is asked from now on; nil lets everything through.
func (p *proxy) guarded(g guard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guard = g
}

// cutAll ends every connection there is, and every one that is made after the listener's end.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// moveTo has connections lead to another server from now on; those there are stay as they are.
func (p *proxy) moveTo(serverURL string) {
	p.t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = u.Host
}

func (p *proxy) accept() {
	for {
		worker, err := p.listener.Accept()
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ended = true
			for l := range p.links {
				l.cut()
			}
			return
		}
		p.wg.Go(func() { p.serve(worker) })
	}
}

func (p *proxy) serve(worker net.Conn) {
	p.mu.Lock()
	address := p.server
	p.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil {
		_ = worker.Close() // as a server that is down
		return
	}
	l := &link{worker: worker, server: server}
	p.mu.Lock()
	if p.ended {
		l.cut()
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { p.copy(l, toServer, worker, server) })
	wg.Go(func() { p.copy(l, toWorker, server, worker) })
	wg.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// copy ends the whole connection when one side of it ends.
func (p *proxy) copy(l *link, d direction, from, to net.Conn) {
	defer l.cut()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		on, cut := buf[:n], false
		p.mu.Lock()
		if p.guard != nil && n > 0 {
			on, cut = p.guard.pass(l, d, on)
		}
		p.mu.Unlock()
		if len(on) > 0 {
			if _, err := to.Write(on); err != nil {
				return
			}
		}
		if err != nil || cut {
			return
		}
	}
}

// cutter counts what goes each way, and cuts once the nth byte from now has gone.
type cutter struct {
	mu    sync.Mutex
	count [2]int
	armed bool
	d     direction
	left  int
}

// arm has the connection cut that carries the nth byte from now in this direction.
func (c *cutter) arm(d direction, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.d, c.left = true, d, n
}

// disarm reports whether it is armed still, and ends that.
func (c *cutter) disarm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.armed
	c.armed = false
	return was
}

// counted is how much has gone each way, and begins to count anew.
func (c *cutter) counted() [2]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.count
	c.count = [2]int{}
	return n
}

func (c *cutter) pass(_ *link, d direction, piece []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed && c.d == d {
		if c.left <= len(piece) {
			c.armed = false
			return piece[:c.left], true
		}
		c.left -= len(piece)
	}
	c.count[d] += len(piece)
	return piece, false
}
