package testkit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Wait is how long tests wait for something that should happen at once. Only time in
// which the test could run counts; see stratumtest.WithPatience.
const Wait = 8 * time.Second

func WaitContext(t testing.TB) context.Context {
	t.Helper()
	return patientContext(t, Wait)
}

func patientContext(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := stratumtest.WithPatience(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until condition holds.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	eventually(t, what, Wait, condition)
}

func eventually(t testing.TB, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	ctx, cancel := stratumtest.WithPatience(context.Background(), limit)
	defer cancel()
	for ; !condition(); time.Sleep(2 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

func StartPool(t testing.TB, opts stratumtest.PoolOptions) *stratumtest.Pool {
	t.Helper()
	p, err := stratumtest.NewPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TwoPools starts the pools btc and bcc, whose shares need little work.
func TwoPools(t testing.TB) (btc, bcc *stratumtest.Pool) {
	t.Helper()
	btc = StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000})
	bcc = StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4, VersionMask: 0x00ffe000})
	return btc, bcc
}

func StartMiner(t testing.TB, opts stratumtest.MinerOptions) *stratumtest.Miner {
	t.Helper()
	m, err := stratumtest.NewMiner(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// CheckMiner fails the test if the miner was disconnected, had a share rejected or saw a
// violation of the protocol.
func CheckMiner(t testing.TB, m *stratumtest.Miner) {
	t.Helper()
	st := m.Stats()
	switch {
	case st.Disconnected:
		t.Errorf("miner %s was disconnected: %s", m.Worker(), st.Err)
	case len(st.Violations) > 0:
		t.Errorf("miner %s saw violations %q", m.Worker(), st.Violations)
	case st.Rejected > 0:
		t.Errorf("miner %s: %d shares were rejected %v, the last: %s", m.Worker(), st.Rejected, st.RejectedByCode, st.LastReject)
	case st.Doubled > 0 || st.Unknown > 0:
		t.Errorf("miner %s: %d answers came twice, %d belong to no request", m.Worker(), st.Doubled, st.Unknown)
	}
}

// CheckPool fails the test if the pool recorded a fault, a rejected share or a duplicate
// extranonce.
func CheckPool(t testing.TB, p *stratumtest.Pool) {
	t.Helper()
	st := p.Stats()
	if st.Faults > 0 || st.DuplicateExtranonces > 0 || st.Rejected > 0 {
		t.Errorf("pool %s: faults %q, duplicate extranonces %d, rejects %v", p.Name(), p.Faults(), st.DuplicateExtranonces, p.Rejects())
	}
}

// WaitPool waits until the miner is at the pool.
func WaitPool(t testing.TB, m *stratumtest.Miner, pool string) {
	t.Helper()
	if err := m.WaitPool(WaitContext(t), pool); err != nil {
		t.Fatalf("miner %s did not reach pool %s: %v; %+v", m.Worker(), pool, err, m.Stats())
	}
}

// WaitAccepted waits until n more of the miner's shares are accepted.
func WaitAccepted(t testing.TB, m *stratumtest.Miner, n uint64) {
	t.Helper()
	before := m.Stats().Accepted
	err := m.WaitFor(WaitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before+n })
	if err != nil {
		t.Fatalf("miner %s: %v; %+v", m.Worker(), err, m.Stats())
	}
}

// WorkerNames returns a function that returns the name of an account's worker i.
func WorkerNames(account string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s.w%d", account, i) }
}
