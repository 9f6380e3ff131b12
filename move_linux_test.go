//go:build linux && !portable_relay

package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// promptPool answers the handshake of a link at once, all in one write, and
// costs next to nothing: what is measured with it is the switcher.
type promptPool struct {
	ln    net.Listener
	links atomic.Int64 // that were answered
	wg    sync.WaitGroup
}

func startPromptPool(t *testing.T) *promptPool {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &promptPool{ln: ln}
	p.wg.Go(p.accept)
	t.Cleanup(func() { ln.Close(); p.wg.Wait() })
	return p
}

func (p *promptPool) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *promptPool) serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 1024)
	n := 0
	for bytes.Count(buf[:n], []byte("\n")) < 2 { // subscribe and authorize
		more, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += more
	}
	// The extranonce is subscribe's second parameter.
	quoted := bytes.SplitN(buf[bytes.Index(buf[:n], []byte(`"params"`))+len(`"params"`):n], []byte{'"'}, 5)
	if len(quoted) < 5 {
		return
	}
	p.links.Add(1)
	fmt.Fprintf(c, `{"id":"subscribe","result":[[],"%s",8],"error":null}`+"\n"+
		`{"id":"auth","result":true,"error":null}`+"\n"+
		`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"+
		`{"id":null,"method":"mining.notify","params":["1","00","","",[],"20000000","1d00ffff","60000000",true]}`+"\n", quoted[3])
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// All miners of one sub-account move to a pool that answers at once. The log
// says how long that took: from the order until the last miner has the new
// pool's job.
func TestMoveToPromptPool(t *testing.T) {
	miners, moves := 500, 2
	if *longTests {
		miners, moves = 5000, 10
	}
	pools := map[string]*promptPool{"btc": startPromptPool(t), "bcc": startPromptPool(t)}
	c := fileConfig()
	c.PoolIdleSeconds, c.DrainSeconds = 0, 1
	for coin, p := range pools {
		c.StratumServerMap[coin] = StratumServerInfo{URL: p.ln.Addr().String(), UserSuffix: coin}
	}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	conns := make([]net.Conn, miners)
	for i := range conns {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns[i] = conn
		fmt.Fprintf(conn, `{"id":1,"method":"mining.subscribe","params":["m"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["alice.%d","x"]}`+"\n", i)
	}
	eventually(t, "all miners at the first pool", func() bool { return pools["btc"].links.Load() == int64(miners) })
	for i := range moves {
		coin := []string{"bcc", "btc"}[i%2]
		from := p.logged()
		p.setCoins(map[string]string{"alice": coin})
		m := p.waitLogFrom(from, fmt.Sprintf(`switch account="alice" to="%s" miners=(\d+) failed_links=(\d+) ms=(\d+): done`, coin))
		if n, _ := strconv.Atoi(m[1]); n != miners || m[2] != "0" {
			t.Errorf("move %d: %s miners, %s links failed", i+1, m[1], m[2])
		}
		t.Logf("move %d: %s miners in %s ms", i+1, m[1], m[3])
		time.Sleep(time.Duration(c.DrainSeconds)*time.Second + 500*time.Millisecond) // former links end
	}
	for i, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(testWait))
		seen := 0
		for buf := make([]byte, 16<<10); seen < moves+1; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("miner %d: %v after %d jobs", i, err, seen)
			}
			seen += bytes.Count(buf[:n], []byte(`"mining.notify"`))
		}
	}
}
