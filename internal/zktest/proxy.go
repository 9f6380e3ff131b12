package zktest

import (
	"fmt"
	"net"
	"sync"
)

// Proxy forwards connections between one client and a server, so that a test can cut the
// connection of that client only.
type Proxy struct {
	target   string
	listener net.Listener
	ended    sync.WaitGroup

	mu     sync.Mutex
	cut    bool
	frozen chan struct{} // closed while bytes may flow
	conns  map[net.Conn]struct{}
	posing func(net.Conn) // answers in the server's place; if nil, the server answers
}

// NewProxy forwards connections to target.
func NewProxy(target string) (*Proxy, error) { return NewProxyAt("127.0.0.1:0", target) }

// NewProxyAt is NewProxy with the address on which to listen. It listens in the network
// namespace of the caller, and connects to target from the namespace in which the process
// started.
func NewProxyAt(addr, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("zktest: proxy: %w", err)
	}
	p := &Proxy{target: target, listener: listener, frozen: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(p.frozen)
	p.ended.Add(1)
	go p.accept()
	return p, nil
}

// Addr returns the address to which the client connects.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections. New ones are closed at once until Restore is called.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		c.Close()
	}
}

// Restore lets connections through again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Pose breaks all connections and lets answer serve new ones, as if another program had
// taken the server's port. A connection is closed when its call of answer returns.
// Pose(nil) breaks all connections and lets the server answer again.
func (p *Proxy) Pose(answer func(net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posing = answer
	for c := range p.conns {
		c.Close()
	}
}

// Freeze blocks all bytes, but keeps connections open and accepts new ones, as in a
// network that loses packets.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

// Thaw undoes Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Thaw()
	p.Cut()
	p.ended.Wait()
}

func (p *Proxy) accept() {
	defer p.ended.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.ended.Add(1)
		go p.forward(client)
	}
}

func (p *Proxy) forward(client net.Conn) {
	defer p.ended.Done()
	defer client.Close()
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	p.mu.Lock()
	posing := p.posing
	p.mu.Unlock()
	if posing != nil {
		posing(client)
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(server) {
		return
	}
	defer p.remove(server)
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.copy(client, server)
	}()
	p.copy(server, client)
	<-back
}

// copy forwards bytes until one side ends, and then closes both.
func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		<-frozen
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
