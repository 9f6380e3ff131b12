package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// At the start no link is stable yet, so nothing shows that a pool works which ends
// the links of some workers. The others do not wait longer than a first pause.
func TestDisconnectedWorkersAtTheStartHoldUpNobody(t *testing.T) {
	t.Parallel()
	for _, conduct := range []struct {
		name string
		of   testkit.Conduct
	}{
		{"gives a job and closes", testkit.ConductJobClose},
		{"closes", testkit.ConductClose},
		{"refuses and closes", testkit.ConductRefuseClose},
	} {
		for _, manyAccounts := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, many accounts %t", conduct.name, manyAccounts), func(t *testing.T) {
				t.Parallel()
				accounts := []string{"alice"}
				if manyAccounts {
					accounts = testkit.ManyAccounts("a", 10)
				}
				start := func() *testSwitcher {
					pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
						p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
							if testkit.IsBad(worker) {
								return conduct.of
							}
							return testkit.ConductServe
						}
					})
					return startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr()))
				}
				sw, control := start(), start()
				const newcomers, every = 25, 200 * time.Millisecond
				bad := func(i int) string { return fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i) }
				for i := range 5 {
					l := testkit.LogIn(sw.addr, bad(i), "raw/1.0")
					defer l.Close()
				}
				logins := func(addr string) (took []time.Duration) {
					took = make([]time.Duration, newcomers)
					var all sync.WaitGroup
					for i := range newcomers {
						all.Go(func() {
							time.Sleep(time.Duration(i) * every)
							l := testkit.LogIn(addr, fmt.Sprintf("%s.new%d", accounts[i%len(accounts)], i), "raw/1.0")
							t.Cleanup(l.Close) // until then no link ends
							if took[i] = l.Took; l.Pool != "btc" {
								t.Errorf("a good miner got to pool %q, with answer %q", l.Pool, l.Answer)
							}
						})
					}
					all.Wait()
					return took
				}
				var got, quiet []time.Duration
				var both sync.WaitGroup
				both.Go(func() { got = logins(sw.addr) })
				both.Go(func() { quiet = logins(control.addr) })
				both.Wait()
				t.Logf("the address was taken out %d times; the longest wait was %v, that of the control %v", sw.timesTakenOut(), slices.Max(got), slices.Max(quiet))
				t.Log(got)
				if wait := slices.Max(got); wait > slices.Max(quiet)+2*time.Second {
					t.Errorf("a good miner waited %v, which is too long", wait)
				}
			})
		}
	}
}
