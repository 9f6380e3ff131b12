package testkit

import (
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// ScriptedPool is a pool that says what the test says, line by line.
type ScriptedPool struct {
	T     testing.TB
	Ln    net.Listener
	Conns chan net.Conn
}

func StartScriptedPool(t testing.TB) *ScriptedPool {
	t.Helper()
	ln, err := testport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	p := &ScriptedPool{T: t, Ln: ln, Conns: make(chan net.Conn, 64)}
	t.Cleanup(func() { ln.Close() })
	go p.Accept()
	return p
}

func (p *ScriptedPool) Accept() {
	for {
		conn, err := p.Ln.Accept()
		if err != nil {
			return
		}
		p.Conns <- conn
	}
}

func (p *ScriptedPool) Addr() string { return p.Ln.Addr().String() }

// Next is the next connection that is made to the pool.
func (p *ScriptedPool) Next() *stratumtest.Raw {
	p.T.Helper()
	select {
	case conn := <-p.Conns:
		return stratumtest.NewRaw(p.T, conn)
	case <-time.After(Wait):
		p.T.Fatalf("no connection to the pool")
		return nil
	}
}
