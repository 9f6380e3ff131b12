//go:build linux && !portable_relay

package main

import (
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// An agent with as many workers as it may have is moved, even if the next pool
// reads them slowly.
func TestSessionAgentWithMostWorkersIsMoved(t *testing.T) {
	t.Parallel()
	btc, bcc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4}), testkit.StartScriptedPool(t)
	// This keeps the kernel from accepting everything.
	raw, err := bcc.Ln.(*net.TCPListener).SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}
	if err != nil {
		t.Fatal(err)
	}
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) {
		c.StratumServerMap["bcc"] = StratumServerInfo{URL: bcc.Addr()}
	})
	agent := stratumtest.DialRaw(t, sw.addr)
	agent.SendLine(`{"id":1,"method":"mining.subscribe","params":["btccom-agent/1"]}`)
	agent.SendLine(`{"id":2,"method":"mining.authorize","params":["agent.a"]}`)
	agent.Send(string(testkit.AgentRegistrations(maxRegistered >> 16)))
	err = btc.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == 1<<16 })
	if err != nil {
		t.Fatalf("%v: %+v", err, btc.Stats())
	}

	coins.set("agent", "bcc")
	sc := &testkit.Scene{T: t, Pools: map[string]*testkit.ScriptedPool{"bcc": bcc}, Miner: agent}
	link := sc.Accept("bcc")
	link.SendLine(jobLine("bcc-1", true))
	for !strings.Contains(agent.Line(testkit.LongWait), "bcc-1") {
	}
	told := make(map[string]bool)
	for range 1 << 16 {
		told[string(link.Read(maxRegistered>>16))] = true
	}
	if len(told) != 1<<16 {
		t.Errorf("%d workers were registered at the pool", len(told))
	}
	submit := agentMessage(stratum.AgentSubmit, 1, "\x01\x00\x00\x00")
	agent.Send(submit)
	if got := string(link.Read(len(submit))); got != submit {
		t.Errorf("the pool got %q", got)
	}
}
