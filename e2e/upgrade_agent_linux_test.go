//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// An agent with 500 miners is moved five times, its pool fails and recovers, and
// the process is replaced twice, once while both pools owe answers to shares. Each
// share gets to the pool of its job and has one answer.
func TestUpgradeAgentWithManyMiners(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4}), testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
	p := daemontest.Start(t, daemontest.FileConfig(btc, bcc), map[string]string{"agent": "btc"})
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: p.Addr})
	testkit.Must(t, err)
	moveAgent(t, p, a, 500, btc, bcc)
}

// The same holds for an agent with TLS at pools with TLS.
func TestTLSUpgradeAgent(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc, bcc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4}), w.pool(stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
	p := daemontest.Start(t, w.config(nil, btc, bcc), map[string]string{"agent": "btc"})
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: p.Addr, TLS: w.miner()})
	testkit.Must(t, err)
	moveAgent(t, p, a, 50, btc, bcc)
}

// moveAgent closes the agent at the end.
func moveAgent(t *testing.T, p *daemontest.Daemon, a *stratumtest.Agent, workers int, btc, bcc *stratumtest.Pool) {
	t.Helper()
	defer a.Close()
	pools := map[string]*stratumtest.Pool{"btc": btc, "bcc": bcc}
	if err := a.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(testkit.LongWaitContext(t), workers, 1); err != nil {
		t.Fatal(err)
	}

	// The miners submit shares all the time.
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for w := 0; ; {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-tick.C:
			}
			for range 25 {
				if err := a.Submit(uint16(w % workers)); err != nil {
					stopped <- err
					return
				}
				w++
			}
		}
	}()
	waitWorkers := func(pool *stratumtest.Pool, jobs uint64) {
		t.Helper()
		err := pool.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == workers })
		if err == nil {
			err = a.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.AgentStats) bool { return st.CleanJobs > jobs })
		}
		if err != nil {
			t.Fatalf("pool %s: %v: %+v", pool.Name(), err, pool.Stats())
		}
	}
	move := func(coin string) {
		t.Helper()
		jobs := a.Stats().CleanJobs
		p.SetCoins(map[string]string{"agent": coin})
		waitWorkers(pools[coin], jobs)
	}
	move("bcc")
	move("btc")
	move("bcc")
	move("btc")
	p.GoodUpgrade()
	btc.Change(func(m *stratumtest.Modes) { m.AnswerDelay = 500 * time.Millisecond })
	accepted := btc.Stats().AgentAccepted
	if err := btc.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentAccepted > accepted+100 }); err != nil {
		t.Fatal(err)
	}
	job, nonce := a.Job()
	move("bcc")
	for w := range uint16(20) { // these are late
		if err := a.SubmitFor(w, job, nonce); err != nil {
			t.Fatal(err)
		}
	}
	p.GoodUpgrade()
	// Shares for jobs of a lost connection are answered with an error.
	lost := a.Stats().Rejected
	jobs := a.Stats().CleanJobs
	bcc.Close()
	if err := bcc.Restart(); err != nil {
		t.Fatal(err)
	}
	waitWorkers(bcc, jobs)
	time.Sleep(200 * time.Millisecond) // so that shares for its job come
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Fatal(err)
	}
	st := a.Stats()
	t.Logf("%d shares: %d accepted, refused %v, %d of them before the pool failed", st.Submitted, st.Accepted, st.Refused, lost)
	if st.Disconnected || st.Doubled > 0 || st.Disordered > 0 || len(st.Violations) > 0 ||
		st.Rejected != st.Refused[stratumtest.AgentUnknown] || lost > st.Submitted/20 {
		t.Errorf("unexpected statistics of the agent: %+v", st)
	}
	for _, pool := range pools {
		if ps := pool.Stats(); ps.AgentRejected > 0 || ps.Faults > 0 {
			t.Errorf("pool %s: unexpected statistics %+v or faults %q", pool.Name(), ps, pool.Faults())
		}
	}
}
