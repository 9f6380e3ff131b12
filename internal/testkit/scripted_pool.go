package testkit

import (
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// ScriptedPool is a pool that sends only the lines that the test passes to it.
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

// Next waits for the next connection to the pool.
func (p *ScriptedPool) Next() *stratumtest.Raw {
	p.T.Helper()
	select {
	case conn := <-p.Conns:
		return stratumtest.NewRaw(p.T, conn)
	case <-time.After(Wait):
		p.T.Fatalf("nothing connected to the pool in time")
		return nil
	}
}

// WaitConnections waits until the pool has exactly n connections.
func WaitConnections(t *testing.T, p *stratumtest.Pool, n int) {
	t.Helper()
	if err := p.WaitFor(WaitContext(t), func(st stratumtest.PoolStats) bool { return st.Connections == n }); err != nil {
		t.Fatalf("pool %s: %v; %+v", p.Name(), err, p.Stats())
	}
}

const (
	RawSubscribe = `{"id":1,"method":"mining.subscribe","params":["raw/1.0"]}`
	RawAuthorize = `{"id":2,"method":"mining.authorize","params":["alice.1","x"]}`
)

// DialSubscribed connects a miner that has subscribed.
func DialSubscribed(t *testing.T, addr string) *stratumtest.Raw {
	t.Helper()
	r := stratumtest.DialRaw(t, addr)
	r.SendLine(RawSubscribe)
	r.Line(stratumtest.Patience)
	return r
}

// CheckFaults fails the test if the pool has recorded a fault. Rejected shares are not
// faults.
func CheckFaults(t *testing.T, p *stratumtest.Pool) {
	t.Helper()
	if faults := p.Faults(); len(faults) > 0 {
		t.Errorf("pool %s: faults %q", p.Name(), faults)
	}
}
