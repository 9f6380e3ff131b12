//go:build linux && e2e

package e2e

import (
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// switcherOfTen is one of the processes that claim their server IDs at the same
// time. It has a miner.
type switcherOfTen struct {
	*daemontest.Daemon
	id    string
	miner *stratumtest.Miner
}

const serverIDLine = `\bserver_id=([1-9]\d*)`

// claimed waits for the server ID.
func (s *switcherOfTen) claimed(t *testing.T) {
	t.Helper()
	s.Addr = s.WaitLog(`listening addr=(\S+)`)[1]
	s.id = s.WaitLog(serverIDLine)[1]
	s.miner = testkit.StartMiner(t, stratumtest.MinerOptions{Addr: s.Addr, Worker: "alice.w", Rate: 5})
}

// Ten processes that are started at the same time get ten IDs. The ID of a killed
// one is free after the session timeout. When that process is started again it gets
// an ID that nobody has, and nobody else notices. If only ten IDs are left, all
// want the same ones, and the killed process has to wait for its own.
func TestTenProcessesServerIDs(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]int{"all free": 0, "ten left": zkMaxServerID - 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := zktest.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { server.Close() })
			tenProcesses(t, server, taken)
		})
	}
}

func tenProcesses(t *testing.T, server *zktest.Server, taken int) {
	const timeout = 4 * time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	pool := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, JobInterval: time.Second, CleanEvery: 1 << 30})
	c := daemontest.ZKConfig(server.Addr(), pool)
	c.ZKSessionTimeoutSeconds = int(timeout / time.Second)
	admin.Put(c.ZKSwitcherWatchDir+"alice", "btc")
	for i := range taken {
		admin.Put(c.ZKServerIDAssignDir+strconv.Itoa(10+i), "somebody else's")
	}
	// held returns the nodes of IDs except those that others had from the
	// beginning.
	held := func() []string {
		names := admin.Children(c.ZKServerIDAssignDir)
		return slices.DeleteFunc(names, func(name string) bool {
			n, err := strconv.Atoi(name)
			if err != nil {
				t.Fatalf("there is a node %q among the server IDs", name)
			}
			return n >= 10 && n < 10+taken
		})
	}

	var all []*switcherOfTen
	for range 10 {
		s := &switcherOfTen{Daemon: daemontest.New(t, t.TempDir())}
		s.WriteConfig(c)
		all = append(all, s)
	}
	for _, s := range all {
		s.StartQuietly("-logtostderr", "-v=1")
	}
	of := make(map[string]int)
	for i, s := range all {
		s.claimed(t)
		if j, twice := of[s.id]; twice {
			t.Fatalf("processes %d and %d both have server ID %s", i, j, s.id)
		}
		of[s.id] = i
		testkit.WantAccepted(t, s.miner, 1)
	}
	if n := len(held()); n != 10 {
		t.Errorf("there are %d nodes of server IDs for ten processes: %v", n, held())
	}

	killed := all[3]
	killed.Signal(syscall.SIGKILL)
	<-killed.Ended
	at := time.Now()
	again := &switcherOfTen{Daemon: daemontest.New(t, killed.Dir)}
	startAgain := func() {
		again.StartQuietly("-logtostderr", "-v=1")
		again.claimed(t)
	}
	if taken == 0 {
		startAgain() // its former node still exists, so that ID is in use
		if i, clash := of[again.id]; clash && i != 3 {
			t.Errorf("when it was started again within the session timeout, it got server ID %s of process %d", again.id, i)
		}
		admin.Await("the killed process's node is gone", func() bool { return !slices.Contains(held(), killed.id) })
		t.Logf("the killed process's node was gone after %v, the session timeout is %v", time.Since(at).Round(10*time.Millisecond), timeout)
	} else {
		startAgain() // it has to wait, because there is no other ID
		t.Logf("the killed process had its server ID again after %v, the session timeout is %v", time.Since(at).Round(10*time.Millisecond), timeout)
		if again.id != killed.id {
			t.Errorf("it got server ID %s, but only %s was free", again.id, killed.id)
		}
	}
	// The last sign of life was at most a third of the timeout old, and the machine
	// may be slow.
	if gone := time.Since(at); gone < timeout/4 {
		t.Errorf("the node of a killed process was gone after %v, which is not the session timeout", gone)
	}
	all[3] = again

	want := make([]string, 0, 10)
	for i, s := range all {
		want = append(want, s.id)
		testkit.WantAccepted(t, s.miner, 2)
		if en := s.miner.Extranonce1(); en[:2] != hexByte(s.id) {
			t.Errorf("process %d: the miner has extranonce %s with server ID %s", i, en, s.id)
		}
		if ids := s.LogLines(serverIDLine); len(ids) != 1 {
			t.Errorf("process %d has had the server IDs %v, want one", i, ids)
		}
		testkit.CheckMiner(t, s.miner)
	}
	got := held()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the nodes are of server IDs %v, but the processes have %v", got, want)
	}
	testkit.CheckPool(t, pool)
}
