package testkit

import (
	"strconv"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// StartMiners starts n miners of an account that mine slowly, and waits until
// they mine.
func StartMiners(t testing.TB, addr, account string, n int) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for i := range n {
		miners = append(miners, StartMiner(t, stratumtest.MinerOptions{
			Addr: addr, Worker: account + ".w" + strconv.Itoa(i), Rate: 20, Configure: 0x1fffe000,
		}))
	}
	for _, m := range miners {
		WantAccepted(t, m, 1)
	}
	return miners
}

// WantAccepted waits for n more accepted shares.
func WantAccepted(t testing.TB, m *stratumtest.Miner, n uint64) {
	t.Helper()
	before := m.Stats().Accepted
	err := m.WaitFor(LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before+n || st.Disconnected })
	if st := m.Stats(); err != nil || st.Disconnected {
		t.Fatalf("miner %s: %v; %+v", m.Worker(), err, st)
	}
}

// WantMining wants all miners to go on, at the named pool if one is given.
func WantMining(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	for _, m := range miners {
		if pool != "" {
			err := m.WaitFor(LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
			if err != nil {
				t.Fatalf("miner %s is not with pool %s: %+v", m.Worker(), pool, m.Stats())
			}
		}
		WantAccepted(t, m, 2)
		CheckMiner(t, m)
	}
}

// WantMiningAfterLoss is wantMining for miners whose pool went away: shares
// under way at that moment are answered with an error.
func WantMiningAfterLoss(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	for _, m := range miners {
		err := m.WaitFor(LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
		if err != nil {
			t.Fatalf("miner %s is not with pool %s: %+v", m.Worker(), pool, m.Stats())
		}
		WantAccepted(t, m, 2)
		if st := m.Stats(); len(st.Violations) > 0 || st.Rejected != st.RejectedByCode[20] || st.Doubled > 0 || st.Unknown > 0 {
			t.Errorf("miner %s: %+v", m.Worker(), st)
		}
	}
}

// WantNewMiner wants a new connection to be served.
func WantNewMiner(t testing.TB, addr, account string) {
	t.Helper()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: addr, Worker: account + ".new", Rate: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	WantAccepted(t, m, 1)
	CheckMiner(t, m)
}

func WaitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(LongWait); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
