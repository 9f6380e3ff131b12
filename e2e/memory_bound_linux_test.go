//go:build linux && e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// memoryBound is the bound of docs/reliability.md, "Memory bound", for the given
// numbers of connections before their authorization, miners, agents among them,
// former links, and links under preparation. A test of package main compares the
// page with the constants in the code.
func memoryBound(t *testing.T, strangers, miners, agents, drains, dials int) int {
	t.Helper()
	page, err := os.ReadFile("docs/reliability.md")
	testkit.Must(t, err)
	const base = 64 << 20 // code, runtime, loops, status page, books
	kept := 0
	for what, n := range map[string]int{
		"before its authorization": strangers, "a miner's session": miners, "an agent adds to it": agents,
		"a former link": drains, "a link under preparation": dials,
	} {
		kept += n * daemontest.Figure(t, string(page), `(?m)^\| [^|]*`+what+`[^|]*\| ([0-9]+) KB \|`) << 10
	}
	// Buffers grow by up to a quarter more than is needed, and as much again waits
	// for the collector.
	return base + 2*kept*5/4
}

// A process whose sessions are all made to hold as much as they can stays below the
// bound.
func TestMemoryStaysBelowTheBound(t *testing.T) {
	const strangers, miners, agents = 60, 60, 4
	const takesNothing = 30 * time.Second // a peer that takes nothing for this long is disconnected
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, JobSize: 200 << 10})
	c := daemontest.FileConfig(btc)
	debug := testkit.UnusedAddr(t)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, debug
	c.PoolIdleSeconds = 0
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	before := p.Usage(debug).Private << 10
	btc.Change(func(m *stratumtest.Modes) { m.NoShareAnswers = true })

	var work sync.WaitGroup
	begin := func(userAgent, account string) *stratumtest.Raw {
		r := stratumtest.NewRaw(t, testkit.DialFrom(t, "127.0.0.2", p.Addr))
		r.Send(`{"id":1,"method":"mining.subscribe","params":["` + userAgent + `"]}` + "\n")
		r.Line(stratumtest.Patience)
		if account != "" {
			r.SendLine(`{"id":2,"method":"mining.authorize","params":["` + account + `.1","x"]}`)
			r.ExpectLine(`{"id":2,"result":true,"error":null}`)
		}
		return r
	}
	reached := before + agents*maxRegistered + (strangers+miners)*300<<10
	// send does not mind if not everything is accepted: what is not accepted is not
	// stored either. On a busy machine it may be accepted later.
	began := time.Now()
	patient := began.Add(testkit.LongWait)
	var holdsMuch atomic.Bool
	send := func(r *stratumtest.Raw, text string) {
		work.Go(func() {
			for len(text) > 0 {
				r.Conn().SetWriteDeadline(time.Now().Add(3 * time.Second))
				n, err := io.WriteString(r.Conn(), text[:min(len(text), 64<<10)])
				if err != nil && (!testkit.IsTimeout(err) || holdsMuch.Load() || time.Now().After(patient)) {
					return
				}
				text = text[n:]
			}
		})
	}
	unfinished := `{"id":3,"method":"` + strings.Repeat("u", stratum.MaxMinerLine-100)

	var quiet, loud []*stratumtest.Raw
	for range strangers {
		quiet = append(quiet, begin(strings.Repeat("a", 10<<10), ""))
	}
	for i := range miners + agents {
		userAgent := strings.Repeat("a", 10<<10)
		if i >= miners {
			userAgent = "btccom-agent/1.0"
		}
		loud = append(loud, begin(userAgent, fmt.Sprintf("account%d", i)))
	}

	// Strangers send requests with long answers, and read none of them.
	long := `{"id":"` + strings.Repeat("i", 10<<10) + `","method":"mining.extranonce.subscribe"}` + "\n"
	for _, r := range quiet {
		send(r, strings.Repeat(long, maxHandshakeLines-2)+unfinished)
	}
	for i, r := range loud {
		var text bytes.Buffer
		if i >= miners {
			text.Write(testkit.AgentRegistrations(maxRegistered >> 16))
		}
		for w := range maxWorkers {
			fmt.Fprintf(&text, `{"id":"w","method":"mining.authorize","params":["account%d.w%d","%s"%s]}`+"\n", i, w, strings.Repeat("p", 200), strings.Repeat(",1", 20))
		}
		for id := range stratum.MaxRequests / 6 {
			fmt.Fprintf(&text, `{"id":%d,"method":"mining.submit","params":["account%d.1","nojob","0","0","0"]}`+"\n", 1000+id, i)
		}
		text.WriteString(unfinished)
		send(r, text.String())
	}
	sent := make(chan struct{})
	go func() { work.Wait(); close(sent) }()
	most := 0
	for sending := true; sending; {
		select {
		case <-sent:
			sending = false
		case <-time.After(time.Second):
			most = max(most, p.Usage(debug).Private<<10)
			holdsMuch.Store(most >= reached)
		}
	}
	for range 2 {
		btc.NewJob(false) // nobody reads these jobs
		most = max(most, p.Usage(debug).Private<<10)
	}
	bound := memoryBound(t, strangers, miners, agents, 0, c.MaxPoolDials)
	t.Logf("%d strangers, %d miners, %d agents: %d MB before, %d MB at most, bound %d MB (%d MB without dials)", strangers, miners, agents,
		before>>20, most>>20, bound>>20, memoryBound(t, strangers, miners, agents, 0, 0)>>20)
	if most > memoryBound(t, strangers, miners, agents, 0, 0) {
		t.Errorf("the process has %d MB, more than the bound of %d MB", most>>20, bound>>20)
	}
	if most < reached {
		t.Errorf("the process has only %d MB, so the sessions do not hold much; want at least %d MB", most>>20, reached>>20)
	}
	if time.Since(began) > takesNothing {
		return // the machine is so busy that all may be too slow by now
	}
	// Loops that are busy with all this may not answer the page in time.
	testkit.WaitUntil(t, "the sessions that are not too slow are left", func() bool {
		var status pageStatus
		getJSON(t, "http://"+debug+"/api/status", &status)
		return status.Sessions >= miners+agents
	})
}
