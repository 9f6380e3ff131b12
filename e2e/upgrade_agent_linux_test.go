//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// An agent with 500 miners is moved five times, its pool goes away and comes
// back, and the process is replaced twice, once with shares that both pools owe
// answers to: each share gets to the pool of its job, and one answer.
func TestUpgradeAgentWithManyMiners(t *testing.T) {
	t.Parallel()
	const workers = 500
	btc, bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4}), testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
	pools := map[string]*stratumtest.Pool{"btc": btc, "bcc": bcc}
	c := daemontest.FileConfig(btc, bcc)
	p := daemontest.Start(t, c, map[string]string{"agent": "btc"})
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: p.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(testkit.LongWaitContext(t), workers, 1); err != nil {
		t.Fatal(err)
	}

	// The miners go on submitting all the time.
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
	for w := range uint16(20) { // late ones
		if err := a.SubmitFor(w, job, nonce); err != nil {
			t.Fatal(err)
		}
	}
	p.GoodUpgrade()
	// What comes for a connection that was lost is answered with an error.
	lost := a.Stats().Rejected
	jobs := a.Stats().CleanJobs
	bcc.Close()
	if err := bcc.Restart(); err != nil {
		t.Fatal(err)
	}
	waitWorkers(bcc, jobs)
	time.Sleep(200 * time.Millisecond) // of shares for its job
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Fatal(err)
	}
	st := a.Stats()
	t.Logf("%d shares: %d accepted, refused %v, %d of them before the pool went away", st.Submitted, st.Accepted, st.Refused, lost)
	if st.Disconnected || st.Doubled > 0 || st.Disordered > 0 || len(st.Violations) > 0 ||
		st.Rejected != st.Refused[stratumtest.AgentUnknown] || lost > st.Submitted/20 {
		t.Errorf("agent: %+v", st)
	}
	for _, pool := range pools {
		if ps := pool.Stats(); ps.AgentRejected > 0 || ps.Faults > 0 {
			t.Errorf("pool %s: %+v %q", pool.Name(), ps, pool.Faults())
		}
	}
}
